from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from edgeai.core.errors import UsageError

SIZES = (40, 56, 33)
MODEL_BYTES, CLIENT_BYTES, Z_BYTES = 4 * 1034, 4 * 40, 4 * 64


def hsfl(split_frac: float) -> dict[str, Any]:
    return {"kind": "hsfl", "split_frac": split_frac}


@pytest.mark.parametrize("optim", [{"momentum": 0.9}, {"kind": "adam", "lr": 0.001}])
@pytest.mark.parametrize(("split_frac", "end"), [(0.0, "fedavg"), (1.0, "splitfed-v1")])
def test_the_ends_are_fedavg_and_splitfed_v1(play: Any, split_frac: float, end: str, optim: dict[str, Any]) -> None:
    mixed, pure = (play(method=method, rounds=2, optim=optim) for method in (hsfl(split_frac), end))
    assert mixed.report.weights_hash == pure.report.weights_hash
    assert mixed.sim.ledger.totals == pure.sim.ledger.totals
    assert mixed.report.rounds == pure.report.rounds


def test_a_mix_is_fedavg_to_the_bit(play: Any) -> None:
    # plain SGD: splitting changes who computes, not what
    cuts = ["conv1", "conv2", "fc"]
    assert play(method=hsfl(0.6), cut=cuts).report.weights_hash == play(method="fedavg").report.weights_hash


def test_equals_a_plain_loop(play: Any, batches: Any, tiny: Any) -> None:
    models = [copy.deepcopy(tiny) for _ in SIZES]
    for client, model in enumerate(models):
        optim = torch.optim.SGD(model.parameters(), lr=0.05)
        for x, y in batches(1, client):
            optim.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optim.step()
    states = [model.state_dict() for model in models]
    expected = [sum(n / 129 * s[name] for n, s in zip(SIZES, states, strict=True)) for name in states[0]]
    found = play(method=hsfl(0.3), rounds=1).weights
    for value, mean in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)


def test_the_slowest_split_and_bytes_are_the_formula(play: Any, world: Any) -> None:
    played = play(method=hsfl(0.34), rounds=1, world=world(2e9, 1e9, 3e9))
    assert played.sim.method.splitting == {1}
    totals = played.sim.ledger.totals
    weights = 2 * MODEL_BYTES + CLIENT_BYTES
    assert totals.up == {"activations": 56 * Z_BYTES, "gradients": 0, "weights": weights, "labels": 56 * 8, "side": 0}
    assert totals.down == {"activations": 0, "gradients": 56 * Z_BYTES, "weights": weights, "labels": 0, "side": 0}


def test_loss_counts_every_sample(play: Any) -> None:
    losses = [play(method=method, rounds=1).report.rounds[0].loss for method in (hsfl(0.6), "fedavg")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_late_client_does_not_count(play: Any, world: Any) -> None:
    # client 0 splits and is late; with it gone, the others' average is FedAvg's of the two
    late = world(1e3, 1e9, 1e9) | {"participation": {"deadline_s": 5.0}}
    mixed, fedavg = (play(method=method, rounds=1, world=late) for method in (hsfl(0.3), "fedavg"))
    assert mixed.report.rounds[0].num_late == fedavg.report.rounds[0].num_late == 1
    assert mixed.report.weights_hash == fedavg.report.weights_hash


def test_a_round_may_have_one_mode_only(play: Any) -> None:
    one = {"participation": {"per_round": 1}}
    mixed, fedavg = (play(method=method, rounds=4, world=one) for method in (hsfl(0.6), "fedavg"))
    assert mixed.report.weights_hash == fedavg.report.weights_hash
    assert {1, 2} == set(mixed.sim.ledger.clients), "both modes had their turn"


def test_leakage_is_that_of_clients_that_split(play: Any) -> None:
    method = play(method=hsfl(0.34), rounds=1).sim.method
    assert method.model_of(0, dict) is method.global_model
    assert method.model_of(2, dict) is None


def test_refuses_noise_for_a_mix(play: Any) -> None:
    with pytest.raises(UsageError) as caught:
        play(method=hsfl(0.5), privacy={"noise": {}})
    assert caught.value.message == "privacy.noise acts on smashed data, but some hsfl clients send none"
    assert caught.value.hint == "set method.split_frac to 1, or leave privacy.noise empty"
    play(method=hsfl(1.0), rounds=1, privacy={"noise": {}})
