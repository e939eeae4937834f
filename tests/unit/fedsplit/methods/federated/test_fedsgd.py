from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError


def all_samples(batches: Any, clients: tuple[int, ...] = (0, 1, 2)) -> tuple[torch.Tensor, torch.Tensor]:
    found = [batch for client in clients for batch in batches(1, client)]
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


@pytest.mark.parametrize("optim", [{"momentum": 0.9}, {"kind": "adam", "lr": 0.01}])
def test_is_full_batch_descent_on_all_samples(play: Any, batches: Any, tiny: Any, optim: dict[str, Any]) -> None:
    x, y = all_samples(batches)
    if optim.get("kind") == "adam":
        stepper: torch.optim.Optimizer = torch.optim.Adam(tiny.parameters(), lr=0.01)
    else:
        stepper = torch.optim.SGD(tiny.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        stepper.zero_grad()
        F.cross_entropy(tiny(x), y).backward()
        stepper.step()
    found = play(method="fedsgd", rounds=3, optim=optim).weights
    for value, expected in zip(found.values(), tiny.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, atol=2e-6, rtol=1e-4)


def test_the_gradient_of_those_in_time(play: Any, batches: Any, tiny: Any, world: Any) -> None:
    x, y = all_samples(batches, (1, 2))
    F.cross_entropy(tiny(x), y).backward()
    late = world(1e3, 1e9, 1e9) | {"participation": {"deadline_s": 5.0}}
    found = play(method="fedsgd", rounds=1, world=late).weights
    for value, weight in zip(found.values(), tiny.parameters(), strict=True):
        torch.testing.assert_close(value, weight - 0.05 * weight.grad, atol=1e-6, rtol=1e-5)


def test_bytes_are_the_formula(play: Any) -> None:
    totals = play(method="fedsgd", rounds=2).sim.ledger.totals
    assert totals.up == totals.down
    assert totals.up == {"activations": 0, "gradients": 0, "weights": 2 * 3 * 4 * 1034, "labels": 0, "side": 0}


@pytest.mark.parametrize("optim", [{"momentum": 0.9}, {"kind": "adam", "lr": 0.01}])
def test_resumes_to_the_bit(play: Any, optim: dict[str, Any]) -> None:
    whole = play(method="fedsgd", rounds=3, optim=optim)
    resumed = play(method="fedsgd", rounds=3, optim=optim, resume_after=2)
    assert resumed.report.weights_hash == whole.report.weights_hash
    forgotten = play(method="fedsgd", rounds=3, optim={**optim, "momentum": 0.0})
    if "momentum" in optim:
        assert forgotten.report.weights_hash != whole.report.weights_hash, "the optimizer's state counts"


def test_refuses_more_than_one_epoch(play: Any) -> None:
    with pytest.raises(UsageError) as caught:
        play(method="fedsgd", local_epochs=2)
    assert caught.value.message == "fedsgd takes one gradient per round, but local_epochs is 2"
    assert caught.value.hint == "set local_epochs to 1, or use fedavg"
