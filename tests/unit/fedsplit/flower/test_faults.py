"""Messages that come twice, late, or to a process that knows nothing; devices that say nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from edgeai.fedsplit.build import build_sim
from edgeai.fedsplit.flower.client_program import Program
from edgeai.fedsplit.flower.courier import DeviceLost
from edgeai.fedsplit.simulate import play_round

from .conftest import config, devices_on, outcome_of


def test_a_second_copy_of_a_message_changes_nothing(grid: Callable[..., Any]) -> None:
    class Twice(grid):  # type: ignore[misc]
        def answer(self, message: Any) -> Any:
            first = super().answer(message)
            if message.metadata.message_type == "train.exchange":
                again = super().answer(message)
                assert again.content["reply"]["number"] == first.content["reply"]["number"]
            return first

    cfg = config(method="splitfed-v2", rounds=1)
    assert outcome_of(devices_on(Twice(), cfg)) == outcome_of(build_sim(cfg))


def test_a_message_of_an_earlier_attempt_is_not_carried_out(grid: Callable[..., Any]) -> None:
    cfg = config(method="splitfed-v2", rounds=2)
    loop = grid()
    sim = devices_on(loop, cfg)
    play_round(sim, 1)
    old = next(one for one in loop.pushed if one.metadata.message_type == "train.exchange")
    play_round(sim, 2)
    before = copy.deepcopy(loop.contexts[100].state)
    reply = loop.answer(old)
    assert reply.content["reply"]["status"] == "late"
    assert list(reply.content) == ["reply"]
    assert loop.contexts[100].state == before


def test_a_node_that_has_forgotten_what_it_kept_gets_it_back(grid: Callable[..., Any]) -> None:
    cfg = config(method="splitfed-v3", rounds=2)
    loop = grid()
    sim = devices_on(loop, cfg)
    play_round(sim, 1)
    loop.contexts[101].state.clear()
    play_round(sim, 2)
    assert any("kept" in message.content for message in loop.pushed)
    expected = build_sim(cfg)
    for number in (1, 2):
        play_round(expected, number)
    for name, value in expected.devices.kept(1).items():
        assert sim.devices.kept(1)[name].equal(value)


def test_a_silent_device_is_lost(grid: Callable[..., Any]) -> None:
    loop = grid()
    sim = devices_on(loop, config(method="fedavg"), silence_s=0.05)
    loop.silent.add(101)
    with pytest.raises(DeviceLost) as caught:
        play_round(sim, 1)
    assert str(caught.value) == "client 1 is lost: no word for 0.05 s"
    assert caught.value.client == 1


def test_a_process_without_memory_plays_the_round_again(grid: Callable[..., Any]) -> None:
    class Forgetful(grid):  # type: ignore[misc]
        def answer(self, message: Any) -> Any:
            self.programs = [Program()]
            return super().answer(message)

    cfg = config(method="relay", rounds=1)
    assert outcome_of(devices_on(Forgetful(), cfg)) == outcome_of(build_sim(cfg))
