from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F


def means(play: Any, rounds: int, **method: Any) -> list[dict[str, Tensor]]:
    """The model before the first round and after each."""
    start = play(method=method, rounds=1).sim.setup.model.weights()
    return [start, *(play(method=method, rounds=number).weights for number in range(1, rounds + 1))]


def test_fedavgm_without_momentum_is_fedavg(play: Any) -> None:
    plain = play(method="fedavg").weights
    found = play(method={"kind": "fedavgm", "momentum": 0.0}).weights
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


def test_a_server_rate_scales_the_first_round(play: Any) -> None:
    start, plain = means(play, 1, kind="fedavg")
    _, half = means(play, 1, kind="fedavgm", server_lr=0.5)
    for name, value in half.items():
        torch.testing.assert_close(value, start[name] + 0.5 * (plain[name] - start[name]), atol=1e-6, rtol=1e-5)


class Replay:
    """Server optimizers written down once more, on the means that FedAvg's clients give from each model."""

    def __init__(self, batches: Any, tiny: Any) -> None:
        self.model, self.batches = tiny, batches

    def mean_move(self, number: int) -> list[Tensor]:
        sizes, total = (40, 56, 33), [torch.zeros_like(w) for w in self.model.parameters()]
        for client, size in enumerate(sizes):
            model = copy.deepcopy(self.model)
            optim = torch.optim.SGD(model.parameters(), lr=0.05)
            for x, y in self.batches(number, client):
                optim.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optim.step()
            for part, new, old in zip(total, model.parameters(), self.model.parameters(), strict=True):
                part += (new - old).detach() * (size / 129)
        return total


@pytest.fixture
def replay(batches: Any, tiny: Any) -> Replay:
    return Replay(batches, tiny)


@torch.no_grad()
def assert_close(found: dict[str, Tensor], model: Any) -> None:
    for value, expected in zip(found.values(), model.parameters(), strict=True):
        torch.testing.assert_close(value, expected.detach(), atol=2e-6, rtol=1e-4)


def test_fedavgm_is_sgd_with_momentum_on_the_mean_move(play: Any, replay: Replay) -> None:
    optim = torch.optim.SGD(replay.model.parameters(), lr=0.7, momentum=0.6)
    for number in (1, 2, 3):
        for weight, move in zip(replay.model.parameters(), replay.mean_move(number), strict=True):
            weight.grad = -move
        optim.step()
    assert_close(play(method={"kind": "fedavgm", "server_lr": 0.7, "momentum": 0.6}, rounds=3).weights, replay.model)


def test_fedadam_by_hand(play: Any, replay: Replay) -> None:
    tau, lr = 1e-2, 0.03
    m = [torch.zeros_like(w) for w in replay.model.parameters()]
    v = [torch.full_like(w, tau * tau) for w in replay.model.parameters()]
    for number in (1, 2):
        moves = replay.mean_move(number)
        with torch.no_grad():
            for k, (weight, d) in enumerate(zip(replay.model.parameters(), moves, strict=True)):
                m[k] = 0.8 * m[k] + 0.2 * d
                v[k] = 0.95 * v[k] + 0.05 * d * d
                weight += lr * m[k] / (v[k].sqrt() + tau)
    method = {"kind": "fedadam", "server_lr": lr, "beta1": 0.8, "beta2": 0.95, "tau": tau}
    assert_close(play(method=method, rounds=2).weights, replay.model)


@pytest.mark.parametrize("kind", ["fedavgm", "fedadam"])
def test_moves_what_fedavg_moves(play: Any, kind: str) -> None:
    assert play(method=kind).sim.ledger.totals == play(method="fedavg").sim.ledger.totals


@pytest.mark.parametrize("kind", ["fedavgm", "fedadam"])
def test_resumes_to_the_bit(play: Any, kind: str) -> None:
    whole, resumed = (play(method=kind, rounds=3, resume_after=after) for after in (None, 1))
    assert resumed.report.weights_hash == whole.report.weights_hash


def test_nobody_in_time_changes_nothing(play: Any, world: Any) -> None:
    never = world(1e3) | {"participation": {"deadline_s": 0.001}}
    played = play(method="fedadam", rounds=1, world=never)
    for name, value in played.sim.setup.model.weights().items():
        assert torch.equal(played.weights[name], value)
