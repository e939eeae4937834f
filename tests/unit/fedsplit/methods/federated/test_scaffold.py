from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError

SIZES = (40, 56, 33)
LR = 0.05


class ByHand:
    """Algorithm 1 with option II, in lists of tensors; clients weigh by their samples."""

    def __init__(self, model: nn.Module, batches: Any, server_lr: float = 1.0) -> None:
        self.model, self.batches, self.server_lr = model, batches, server_lr
        self.c = [torch.zeros_like(w) for w in model.parameters()]
        self.own = [[torch.zeros_like(w) for w in model.parameters()] for _ in SIZES]

    def round(self, number: int, clients: tuple[int, ...] = (0, 1, 2)) -> None:
        start = [w.detach().clone() for w in self.model.parameters()]
        moved = [torch.zeros_like(w) for w in start]
        changed = [torch.zeros_like(w) for w in start]
        for client in clients:
            local, seen = copy.deepcopy(self.model), [torch.zeros_like(w) for w in start]
            steps = self.batches(number, client)
            for x, y in steps:
                gradients = torch.autograd.grad(F.cross_entropy(local(x), y), list(local.parameters()))
                with torch.no_grad():
                    for k, weight in enumerate(local.parameters()):
                        weight -= LR * (gradients[k] - self.own[client][k] + self.c[k])
                        seen[k] += gradients[k] / len(steps)
            for k, weight in enumerate(local.parameters()):
                moved[k] += (weight.detach() - start[k]) * SIZES[client] / sum(SIZES[i] for i in clients)
                changed[k] += (seen[k] - self.own[client][k]) * SIZES[client] / sum(SIZES)
            self.own[client] = seen  # option II is the mean of the gradients seen
        with torch.no_grad():
            for k, weight in enumerate(self.model.parameters()):
                weight += self.server_lr * moved[k]
                self.c[k] = self.c[k] + changed[k]


def assert_close(found: dict[str, torch.Tensor], model: nn.Module) -> None:
    for value, expected in zip(found.values(), model.parameters(), strict=True):
        torch.testing.assert_close(value, expected.detach(), atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_equals_the_algorithm_by_hand(play: Any, batches: Any, tiny: Any, server_lr: float) -> None:
    hand = ByHand(tiny, batches, server_lr)
    for number in (1, 2, 3):
        hand.round(number)
    played = play(method={"kind": "scaffold", "server_lr": server_lr}, rounds=3)
    assert_close(played.weights, hand.model)
    for value, expected in zip(played.sim.method.variate.values(), hand.c, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-3)


def test_the_first_round_is_fedavg(play: Any) -> None:
    first, fedavg = (play(method=kind, rounds=1).report.weights_hash for kind in ("scaffold", "fedavg"))
    assert first == fedavg
    assert play(method="scaffold").report.weights_hash != play(method="fedavg").report.weights_hash


def test_the_mean_variate_is_the_clients_even_when_some_are_late(play: Any, world: Any) -> None:
    # over-selection lets two of three count: the slowest is always late, and its change never arrives
    some = world(1e6, 1e9, 1e9) | {"participation": {"per_round": 2, "over_select": 1.5}}
    played = play(method="scaffold", rounds=3, world=some)
    assert [row.num_late for row in played.report.rounds] == [1, 1, 1]
    assert played.sim.method.counted == {1, 2}
    for name, value in played.sim.method.variate.items():
        own = [played.sim.devices.kept(client)[f"new/{name}"] for client in (1, 2)]
        expected = sum(SIZES[client] / sum(SIZES) * part for client, part in zip((1, 2), own, strict=True))
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
        assert not played.sim.devices.kept(0)[f"old/{name}"].any(), "client 0 goes on from where it counted last"


def test_bytes_are_the_formula(play: Any) -> None:
    totals = play(method="scaffold", rounds=2).sim.ledger.totals
    assert totals.up == totals.down
    assert totals.up == {"activations": 0, "gradients": 0, "weights": 2 * 3 * 2 * 4 * 1034, "labels": 0, "side": 0}


def test_resumes_to_the_bit(play: Any) -> None:
    some = {"participation": {"per_round": 2}}
    whole, resumed = (play(method="scaffold", rounds=4, world=some, resume_after=after) for after in (None, 2))
    assert resumed.report.weights_hash == whole.report.weights_hash


@pytest.mark.parametrize(("optim", "said"), [({"kind": "adam"}, "adam"), ({"momentum": 0.9}, "sgd with momentum 0.9")])
def test_refuses_other_optimisers(play: Any, optim: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        play(method="scaffold", optim=optim)
    assert caught.value.message == (f"scaffold derives mean gradients from plain SGD steps, but optim is {said}")
    assert caught.value.hint == "set optim.kind to sgd and optim.momentum to 0"
