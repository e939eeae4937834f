from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional as F

SIZES = (40, 56, 33)


def prox(mu: float) -> dict[str, Any]:
    return {"kind": "fedprox", "mu": mu}


def test_equals_a_plain_loop_with_the_term_in_the_loss(play: Any, batches: Any, tiny: Any) -> None:
    states = []
    for client in range(len(SIZES)):
        model = copy.deepcopy(tiny)
        optim = torch.optim.SGD(model.parameters(), lr=0.05)
        for x, y in batches(1, client):
            optim.zero_grad()
            apart = sum(((w - w0) ** 2).sum() for w, w0 in zip(model.parameters(), tiny.parameters(), strict=True))
            (F.cross_entropy(model(x), y) + 3.0 / 2 * apart).backward()
            optim.step()
        states.append(model.state_dict())
    expected = [sum(n / 129 * s[name] for n, s in zip(SIZES, states, strict=True)) for name in states[0]]
    found = play(method=prox(3.0), rounds=1).weights
    for value, mean in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)


def test_without_a_pull_it_is_fedavg(play: Any) -> None:
    assert play(method=prox(0.0)).report.weights_hash == play(method="fedavg").report.weights_hash


def test_moves_what_fedavg_moves(play: Any) -> None:
    assert play(method=prox(0.1)).sim.ledger.totals == play(method="fedavg").sim.ledger.totals


def test_the_last_step_forgets_all_others_where_the_pull_is_one_over_the_rate(
    play: Any, batches: Any, tiny: Any
) -> None:
    # w - lr (g + mu (w - w0)) = w0 - lr g with mu = 1 / lr, so that two steps move by the second gradient alone
    optim = torch.optim.SGD(tiny.parameters(), lr=0.1)
    start = [weight.detach().clone() for weight in tiny.parameters()]
    for x, y in batches(1, 0):
        optim.zero_grad()
        F.cross_entropy(tiny(x), y).backward()
        with torch.no_grad():
            for weight, value in zip(tiny.parameters(), start, strict=True):
                weight.copy_(value - 0.1 * weight.grad)
    found = play((40,), method=prox(10.0), rounds=1, optim={"lr": 0.1}).weights
    for value, weight in zip(found.values(), tiny.parameters(), strict=True):
        torch.testing.assert_close(value, weight.detach(), atol=1e-6, rtol=1e-5)
