"""Who counts in a round, and when it ends."""

import math

import pytest

from edgeai.fedsplit.config.world import WorldConfig
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.round import Cutoff, Round, RoundServer
from edgeai.fedsplit.protocol.transport import Reply, arrivals
from edgeai.fedsplit.world.clock import Clock
from edgeai.fedsplit.world.world import build_world


def reply(client, at_s):
    return Reply(client, Message(), at_s, at_s)


def replies(*times_s):
    return {client: reply(client, at_s) for client, at_s in enumerate(times_s)}


def round_(num_wanted=4, deadline_s=None, lost=frozenset()):
    clock = Clock(build_world(WorldConfig(), 4, 0), 0)
    clock.begin_round(1)
    clock.advance(10.0)
    limit_s = math.inf if deadline_s is None else clock.now_s + deadline_s
    return Round(1, range(4), None, RoundServer(1, clock, Ledger()), Cutoff(num_wanted, limit_s, lost))


def test_without_limits_everyone_counts_and_the_last_one_ends_the_round():
    rnd = round_()
    assert list(rnd.accept(replies(12.0, 15.0, 11.0))) == [0, 1, 2]
    assert (rnd.server.end_s, rnd.late) == (15.0, set())


def test_a_deadline_counts_from_the_rounds_begin():
    rnd = round_(deadline_s=3.0)
    assert list(rnd.accept(replies(12.0, 15.0, 13.0))) == [0, 2]
    assert (rnd.server.end_s, rnd.late) == (13.0, {1})


def test_nobody_in_time_ends_at_the_deadline():
    rnd = round_(deadline_s=1.0)
    assert rnd.accept(replies(12.0, 15.0)) == {}
    assert (rnd.server.end_s, rnd.late) == (11.0, {0, 1})


def test_over_selection_keeps_the_first_ones_and_does_not_wait():
    rnd = round_(num_wanted=2)
    assert list(rnd.accept(replies(14.0, 11.0, 12.0))) == [1, 2]
    assert (rnd.server.end_s, rnd.late) == (12.0, {0})


def test_a_lost_client_is_waited_for_and_left_out():
    rnd = round_(lost=frozenset({1}))
    assert list(rnd.accept(replies(12.0, 15.0, 11.0))) == [0, 2]
    assert (rnd.server.end_s, rnd.late) == (15.0, {1})


def test_over_selection_makes_up_for_a_lost_client():
    rnd = round_(num_wanted=2, lost=frozenset({2}))
    assert list(rnd.accept(replies(14.0, 11.0, 12.0))) == [0, 1]
    assert rnd.server.end_s == 14.0


def test_the_loss_is_the_mean_over_samples():
    rnd = round_()
    assert str(rnd.loss.mean) == "nan"
    rnd.loss.add(1.0, 30)
    rnd.loss.add(4.0, 10)
    assert rnd.loss.mean == pytest.approx(1.75)


def test_arrivals_come_in_order_of_time_then_client():
    streams = {
        0: iter([reply(0, 2.0), reply(0, 5.0)]),
        1: iter([reply(1, 1.0), reply(1, 5.0)]),
        2: iter([]),
    }
    assert [(one.client, one.at_s) for one in arrivals(streams)] == [(1, 1.0), (0, 2.0), (0, 5.0), (1, 5.0)]
