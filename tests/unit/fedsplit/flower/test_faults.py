"""Messages that arrive twice, late, or at a new process; devices that stay silent."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error
from flwr.app import Message as FlowerMessage

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.flower import client_program
from edgeai.fedsplit.flower.client_program import END, Program
from edgeai.fedsplit.flower.retry import RetryingRounds
from edgeai.fedsplit.flower.transport.device_transport import DeviceLost
from edgeai.fedsplit.flower.transport.wire_records import get_message
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.history import History, hash_weights
from edgeai.fedsplit.sim.train import play_round

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
    assert str(caught.value) == "client 1 is lost: no message for 0.05 s"
    assert caught.value.client == 1


def test_a_round_in_which_a_device_is_lost_is_played_again_without_it(grid: Callable[..., Any], tmp_path: Path) -> None:
    class Dying(grid):  # type: ignore[misc]
        def push_messages(self, messages: Any) -> Any:
            if len(self.pushed) == 12:  # in the middle of round 1
                self.silent.add(101)
            return super().push_messages(messages)

    cfg = config(method="splitfed-v2", rounds=2, codec={"up": {"kind": "topk"}, "error_feedback": True})
    loop = Dying()
    sim = devices_on(loop, cfg, silence_s=0.1)
    run = Run.create(cfg, out=tmp_path / "run", argv=["edgeai"], device="cpu", device_why="test")
    play, history = RetryingRounds(run, FlowerConfig(), 0), History(sim)
    history.add(play(sim, 1, history), None)
    assert loop.silent == {101}, "the case was not met"
    loop.silent.clear()  # it comes back
    history.add(play(sim, 2, history), None)

    expected = build_sim(cfg)
    other = History(expected)
    other.add(play_round(expected, 1, away={1}), None)
    other.add(play_round(expected, 2), None)
    assert history.report().to_json() == other.report().to_json()
    text = "client 1 is lost: no message for 0.1 s; round 1 is repeated without it"
    assert text in (run.path / "log.txt").read_text()


@pytest.mark.parametrize("method", ["fedavg", "scaffold", "cse-fsl"])
@pytest.mark.parametrize("is_silent", [True, False])
def test_where_devices_are_asked_once_a_round_it_ends_with_the_rest(
    method: str, is_silent: bool, grid: Callable[..., Any], tmp_path: Path
) -> None:
    """No device trains twice because another is lost: answers received and pending both count."""

    class Losing(grid):  # type: ignore[misc]
        late_until_s = 0.0

        def answer(self, message: Any) -> Any:
            if message.metadata.dst_node_id == 100 and message.metadata.message_type == "train.exchange" and lost:
                return FlowerMessage(Error(1, "out of memory"), reply_to=message)
            return super().answer(message)

        def pull_messages(self, ids: Any) -> list[Any]:
            late = {one.metadata.message_id for one in self.pushed if one.metadata.dst_node_id == 102}
            is_late = not is_silent and time.monotonic() < self.late_until_s
            return super().pull_messages([one for one in ids if not (is_late and one in late)])  # type: ignore[no-any-return]

    lost = {100}
    cfg = config(method=method, rounds=2)
    loop = Losing()
    sim = devices_on(loop, cfg, silence_s=0.2 if is_silent else 5.0)
    if is_silent:
        loop.silent |= lost
    loop.late_until_s = time.monotonic() + 0.3
    run = Run.create(cfg, out=tmp_path / "run", argv=["edgeai"], device="cpu", device_why="test")
    play, history = RetryingRounds(run, FlowerConfig(), 0), History(sim)
    history.add(play(sim, 1, history), None)
    asked = [
        one.metadata.dst_node_id
        for one in loop.pushed
        if one.metadata.message_type == "train.exchange" and get_message(one.content, "ask")[1]["op"] != END
    ]
    assert sorted(asked) == [100, 101, 102]
    assert "client 0 is lost" in (run.path / "log.txt").read_text()
    lost.clear()
    loop.silent.clear()
    history.add(play(sim, 2, history), None)

    expected = build_sim(cfg)
    other = History(expected)
    other.add(play_round(expected, 1, away={0}), None)
    other.add(play_round(expected, 2), None)
    assert history.report().to_json() == other.report().to_json()


def test_two_that_fail_at_once_are_both_left_out(grid: Callable[..., Any], tmp_path: Path) -> None:
    class Failing(grid):  # type: ignore[misc]
        def answer(self, message: Any) -> Any:
            if message.metadata.dst_node_id in (100, 102) and message.metadata.message_type == "train.exchange":
                return FlowerMessage(Error(1, "out of memory"), reply_to=message)
            return super().answer(message)

    cfg = config(method="fedavg", rounds=1)
    sim = devices_on(Failing(), cfg, silence_s=30.0)
    run = Run.create(cfg, out=tmp_path / "run", argv=["edgeai"], device="cpu", device_why="test")
    begin_s = time.monotonic()
    RetryingRounds(run, FlowerConfig(), 0)(sim, 1, History(sim))
    assert time.monotonic() - begin_s < 10, "nobody waits for who has failed"
    expected = build_sim(cfg)
    play_round(expected, 1, away={0, 2})
    assert hash_weights(sim.method) == hash_weights(expected.method)


def test_too_few_devices_end_the_run(grid: Callable[..., Any], tmp_path: Path) -> None:
    cfg = config(method="fedavg")
    loop = grid()
    sim = devices_on(loop, cfg, silence_s=0.05)
    loop.silent |= {100, 101}
    run = Run.create(cfg, out=tmp_path / "run", argv=["edgeai"], device="cpu", device_why="test")
    with pytest.raises(EdgeAIError) as caught:
        RetryingRounds(run, FlowerConfig(min_nodes=2), 0)(sim, 1, History(sim))
    assert str(caught.value) == "only 1 clients are left, fewer than backend.min_nodes (2)"


@pytest.mark.parametrize("method", ["relay", "splitfed-v3", "fedavg", "scaffold", "local-loss"])
def test_a_process_without_memory_plays_the_round_again(
    method: str, grid: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the deployment engine, which starts a process per message."""

    class Forgetful(grid):  # type: ignore[misc]
        def answer(self, message: Any) -> Any:
            self.programs = [Program()]
            return super().answer(message)

    monkeypatch.setattr(client_program, "SMALL_BYTES", 0)  # no state counts as small
    cfg = config(method=method, rounds=2)
    assert outcome_of(devices_on(Forgetful(), cfg)) == outcome_of(build_sim(cfg))
