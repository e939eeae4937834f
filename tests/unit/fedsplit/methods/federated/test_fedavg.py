from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.privacy.accountant import sampled_epsilon

SIZES = (40, 56, 33)
MODEL_BYTES = 4 * 1034


def test_equals_a_plain_loop(play: Any, batches: Any, tiny: Any) -> None:
    models = [copy.deepcopy(tiny) for _ in SIZES]
    for client, model in enumerate(models):
        optim = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for x, y in batches(1, client):
            optim.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optim.step()
    states = [model.state_dict() for model in models]
    expected = [sum(n / 129 * s[name] for n, s in zip(SIZES, states, strict=True)) for name in states[0]]
    found = play(method="fedavg", rounds=1, optim={"momentum": 0.9}).weights
    for value, mean in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)


def test_bytes_are_the_formula(play: Any) -> None:
    totals = play(method="fedavg", rounds=2).sim.ledger.totals
    assert totals.up == totals.down
    assert totals.up == {"activations": 0, "gradients": 0, "weights": 2 * 3 * MODEL_BYTES, "labels": 0, "side": 0}


def test_late_clients_do_not_count(play: Any, world: Any) -> None:
    late = world(1e9, 1e3, 1e3) | {"participation": {"deadline_s": 5.0}}
    alone = play(method="fedavg", rounds=1, world=late)
    assert alone.report.rounds[0].num_late == 2
    assert alone.sim.clock.now_s == 5.0
    first = play((40,), method="fedavg", rounds=1).weights
    for name, value in alone.weights.items():
        assert torch.equal(value, first[name])


def test_dp_sgd_without_noise_or_clipping_is_no_dp_sgd(play: Any) -> None:
    plain = play(method="fedavg", rounds=1)
    loose = play(method="fedavg", rounds=1, privacy={"dp_sgd": {"clip": 1e6, "noise_multiplier": 0.0}})
    for name, value in plain.weights.items():
        torch.testing.assert_close(loose.weights[name], value, atol=1e-6, rtol=1e-4)


def test_dp_sgd_bounds_what_one_step_moves(play: Any) -> None:
    played = play((16,), method="fedavg", rounds=1, privacy={"dp_sgd": {"clip": 1e-3, "noise_multiplier": 0.0}})
    moved = [value - played.sim.setup.model.weights()[name] for name, value in played.weights.items()]
    norm = float(torch.cat([part.flatten() for part in moved]).norm())
    assert 0 < norm <= 0.05 * 1e-3 * 1.001  # lr times clip


@pytest.mark.parametrize("name", ["noise", "nopeek"])
def test_refuses_what_acts_on_smashed_data(play: Any, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        play(method="fedavg", privacy={name: {}})
    assert caught.value.message == f"privacy.{name} acts on smashed data, but fedavg sends none"
    assert caught.value.hint == "use privacy.dp_sgd, or a method that splits the model"


def test_epsilon_is_of_the_steps_that_were_made(play: Any) -> None:
    played = play(method="fedavg", rounds=2, privacy={"dp_sgd": {"noise_multiplier": 2.0}})
    assert [protect.num_private_steps for protect in played.sim.protects] == [6, 8, 6]  # 3, 4 and 3 batches a round
    spent = [
        sampled_epsilon(noise_multiplier=2.0, sampling_frac=16 / n, num_steps=steps, delta=1e-5)
        for n, steps in zip(SIZES, (6, 8, 6), strict=True)
    ]
    assert played.report.epsilon == max(spent)
