from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.cuts.meter import measure_part
from edgeai.fedsplit.methods.auxiliary_nets import build_heads
from edgeai.fedsplit.methods.weight_tags import model_weights, tagged, untagged
from edgeai.fedsplit.sim.build import Sim

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LR = 0.05
C_BYTES, HEAD_BYTES = 4 * 40, 4 * (64 * 10 + 10)
Z_BYTES = 4 * 64


def trained_apart(
    sim: Sim, batches: Callable[..., list[tuple[Tensor, Tensor]]], order: Sequence[int], h: int = 1
) -> dict[str, Tensor]:
    """One round as a plain loop: `order` names the client of each upload as the server takes them.

    Returns:
        Weights of the model and of the head, each averaged by n_k / n.
    """
    layers = dict(copy.deepcopy(sim.setup.model.model).named_children())
    server = nn.Sequential(*[layers[name] for name in ("conv2", "fc", "out")])
    server_optim = torch.optim.SGD(server.parameters(), lr=LR)
    uploads, finals = [], []
    for client in range(len(SIZES)):
        part, head = copy.deepcopy(layers["conv1"]), build_heads(sim.setup)[1].module
        optim = torch.optim.SGD([*part.parameters(), *head.parameters()], lr=LR)
        sent = []
        for number, (x, y) in enumerate(batches(1, client)):
            z = part(x)
            if number % h == 0:
                sent.append((z.detach(), y))
            optim.zero_grad()
            F.cross_entropy(head(z), y).backward()
            optim.step()
        uploads.append(iter(sent))
        finals.append({**part.state_dict(prefix="conv1."), **head.state_dict(prefix="head/")})
    for client in order:
        z, y = next(uploads[client])
        server_optim.zero_grad()
        F.cross_entropy(server(z), y).backward()
        server_optim.step()
    assert all(next(left, None) is None for left in uploads)
    mean = {
        name: sum(size / NUM * final[name] for size, final in zip(SIZES, finals, strict=True)) for name in finals[0]
    }
    rest = {
        name: value
        for key in ("conv2", "fc", "out")
        for name, value in layers[key].state_dict(prefix=f"{key}.").items()
    }
    return {**mean, **rest}


def assert_close(sim: Sim, expected: dict[str, Tensor]) -> None:
    """The average is taken in another order of operations, hence not to the bit."""
    found = {**sim.method.global_model.weights(), **tagged("head", sim.method.modules()["head.1"].state_dict())}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


IN_TURN = (0, 1, 2, 0, 1, 2, 0, 1, 2, 1)
"""3, 4 and 3 batches, batch i of every client in turn."""


def test_equals_a_plain_loop_in_turn(play: Any, batches: Any) -> None:
    sim = play(method={"kind": "local-loss", "server_order": "interleave"}, rounds=1).sim
    assert_close(sim, trained_apart(sim, batches, IN_TURN))


def test_the_server_learns_as_data_arrive(play: Any, batches: Any, world: Any) -> None:
    # client 0 is so slow that all others are done before its first batch; those are equally fast
    sim = play(method="local-loss", rounds=1, world=world(1e3, 1e9, 1e9)).sim
    assert_close(sim, trained_apart(sim, batches, (1, 2, 1, 2, 2, 1, 1, 0, 0, 0)))


def test_equal_devices_with_equal_data_arrive_in_turn(play: Any, world: Any) -> None:
    runs = [
        play(
            (48, 48, 48),
            method={"kind": "local-loss", "server_order": order},
            world=world(1e9, up_bps=1e6, server_flops_per_s=1e7),
        )
        for order in ("arrival", "interleave")
    ]
    assert runs[0].report.weights_hash == runs[1].report.weights_hash


def test_sends_every_hth_batch_from_the_first(play: Any, batches: Any) -> None:
    sim = play(method={"kind": "cse-fsl", "h": 3, "server_order": "interleave"}, rounds=1).sim
    assert_close(sim, trained_apart(sim, batches, (0, 1, 2, 1), h=3))


@pytest.mark.parametrize("order", ["arrival", "interleave"])
def test_cse_fsl_with_h_1_is_local_loss(play: Any, order: str) -> None:
    cse = play(method={"kind": "cse-fsl", "h": 1, "server_order": order})
    local = play(method={"kind": "local-loss", "server_order": order})
    assert cse.report.weights_hash == local.report.weights_hash
    assert cse.sim.ledger.totals == local.sim.ledger.totals
    assert cse.report.seconds == local.report.seconds


def trained_alone(sim: Sim, batches: Callable[..., list[tuple[Tensor, Tensor]]], client: int) -> dict[str, Tensor]:
    """One round of one client with a server of its own, as a plain loop."""
    head, model = build_heads(sim.setup)[1].module, copy.deepcopy(sim.setup.model.model)
    optim = torch.optim.SGD([*model[:1].parameters(), *head.parameters()], lr=LR)
    server_optim = torch.optim.SGD(model[1:].parameters(), lr=LR)
    for x, y in batches(1, client):
        z = model[:1](x)
        server_optim.zero_grad()
        F.cross_entropy(model[1:](z.detach()), y).backward()
        server_optim.step()
        optim.zero_grad()
        F.cross_entropy(head(z), y).backward()
        optim.step()
    return dict(model.state_dict())


def assert_mean(sim: Sim, batches: Callable[..., list[tuple[Tensor, Tensor]]], clients: Sequence[int]) -> None:
    states = [trained_alone(sim, batches, client) for client in clients]
    total = sum(SIZES[client] for client in clients)
    for name, value in sim.method.global_model.weights().items():
        mean = sum(SIZES[client] / total * state[name] for client, state in zip(clients, states, strict=True))
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-5)


def test_replicas_are_averaged(play: Any, batches: Any) -> None:
    sim = play(method={"kind": "local-loss", "server": "replicas"}, rounds=1).sim
    assert_mean(sim, batches, (0, 1, 2))


@pytest.mark.parametrize(
    ("method", "num_sent"),
    [
        ({"kind": "local-loss"}, NUM),
        ({"kind": "local-loss", "server": "replicas"}, NUM),
        ({"kind": "cse-fsl", "h": 2}, 16 + 8 + 16 + 16 + 16 + 1),
        ({"kind": "cse-fsl", "h": 50}, 3 * 16),
    ],
)
def test_bytes_are_the_formula(play: Any, method: dict[str, Any], num_sent: int) -> None:
    totals = play(method=method, rounds=1).sim.ledger.totals
    weights = 3 * (C_BYTES + HEAD_BYTES)
    assert totals.up == {
        "activations": num_sent * Z_BYTES,
        "gradients": 0,
        "weights": weights,
        "labels": num_sent * 8,
        "side": 0,
    }
    assert totals.down == {"activations": 0, "gradients": 0, "weights": weights, "labels": 0, "side": 0}


def test_half_of_what_split_learning_moves_at_the_cut(play: Any) -> None:
    local = play(method="local-loss").sim.ledger.totals
    relay = play(method="relay").sim.ledger.totals
    at_cut = [way[kind] for way in (relay.up, relay.down) for kind in ("activations", "gradients")]
    assert 2 * local.up["activations"] == sum(at_cut)


def num_flops(sim: Sim) -> tuple[float, float]:
    """Training one sample: of layers and head on the device, of the rest at the server."""
    model, head = sim.setup.model.model, build_heads(sim.setup)[1].module
    device = measure_part(model[:1], (1, 8, 8)).train_flops + measure_part(head, (4, 4, 4)).train_flops
    return device, measure_part(model[1:], (4, 4, 4)).train_flops


def test_computing_uploads_and_server_overlap(play: Any, world: Any) -> None:
    slow_device = play((48,), method="local-loss", rounds=1, world=world(1e5))
    device_flops, server_flops = num_flops(slow_device.sim)
    assert slow_device.report.seconds == pytest.approx(48 * device_flops / 1e5, rel=1e-6)

    slow_link = play((48,), method="local-loss", rounds=1, world=world(up_bps=1e4))
    up_bytes = 48 * (Z_BYTES + 8) + C_BYTES + HEAD_BYTES
    assert slow_link.report.seconds == pytest.approx(8 * up_bytes / 1e4, rel=1e-6)

    slow_server = play((48,), method="local-loss", rounds=1, world=world(server_flops_per_s=1e5))
    assert slow_server.report.seconds == pytest.approx(48 * server_flops / 1e5, rel=1e-6)


def test_nothing_waits_for_the_server(play: Any) -> None:
    assert play(method="local-loss").report.client_held_bytes == 0
    assert play(method="splitfed-v2").report.client_held_bytes > 0


@pytest.mark.parametrize("kind", ["local-loss", "cse-fsl"])
def test_resumes_to_the_bit(play: Any, kind: str) -> None:
    whole = play(method=kind, rounds=3, cut=["conv1", "conv2"])
    resumed = play(method=kind, rounds=3, cut=["conv1", "conv2"], resume_after=1)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.seconds == whole.report.seconds
    assert resumed.sim.ledger.totals == whole.sim.ledger.totals


def test_a_late_client_does_not_count(play: Any, batches: Any, world: Any) -> None:
    late = world(1e3, 1e9, 1e9) | {"participation": {"deadline_s": 5.0}}
    played = play(method={"kind": "local-loss", "server": "replicas"}, rounds=1, world=late)
    assert played.sim.clock.now_s == 5.0
    assert played.report.rounds[0].num_late == 1
    assert_mean(played.sim, batches, (1, 2))


def test_nobody_in_time_changes_nothing(play: Any, world: Any) -> None:
    slow = world(1e3) | {"participation": {"deadline_s": 0.001}}
    played = play(method="local-loss", rounds=1, world=slow)
    assert played.report.rounds[0].num_late == 3
    for name, value in played.sim.setup.model.weights().items():
        assert torch.equal(played.weights[name], value)


def test_heads_of_different_cuts_are_averaged_apart(play: Any) -> None:
    played = play(method="local-loss", rounds=1, cut=["conv1", "conv2", "conv1"])
    modules = played.sim.method.modules()
    assert [tuple(modules[name][1].weight.shape) for name in ("head.1", "head.2")] == [(10, 64), (10, 32)]
    expected = 2 * (4 * (40 + 650)) + 4 * (40 + 296 + 330)
    assert played.sim.ledger.totals.up["weights"] == played.sim.ledger.totals.down["weights"] == expected
    assert played.sim.ledger.totals.up["activations"] == (40 + 33) * 4 * 64 + 56 * 4 * 32


def test_fewer_clients(play: Any) -> None:
    played = play(method="local-loss", rounds=2, world={"participation": {"per_round": 1}})
    assert len(played.sim.ledger.clients) <= 2
    assert math.isfinite(played.report.rounds[-1].loss)


def test_warns_about_heads_under_dp_sgd(play: Any) -> None:
    played = play((33,), method="local-loss", rounds=1, privacy={"dp_sgd": {"noise_multiplier": 2.0}})
    assert played.history.warnings == (
        "DP-SGD covers the layers before the cut, not the heads, which learn from smashed data and labels",
    )
    assert play(method="local-loss", rounds=1).history.warnings == ()


def test_names_say_which_network_weights_belong_to() -> None:
    weights = {"conv1.0.weight": torch.zeros(1), **tagged("head", {"1.weight": torch.ones(2)})}
    assert set(weights) == {"conv1.0.weight", "head/1.weight"}
    assert set(model_weights(weights)) == {"conv1.0.weight"}
    assert set(untagged("head", weights)) == {"1.weight"}


def test_the_head_is_the_seeds_alone(play: Any) -> None:
    setup = play(method="local-loss", rounds=1).sim.setup
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = build_heads(setup)[1].module, build_heads(setup)[1].module
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[1].weight, second[1].weight)
    other = play(method="local-loss", rounds=1, seed=1).sim.setup
    assert not torch.equal(build_heads(other)[1].module[1].weight, first[1].weight)


def test_dropout_on_a_device_does_not_depend_on_the_others(
    play: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(*_: object) -> nn.Sequential:
        return nn.Sequential(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5)), nn.Sequential(nn.ReLU(), nn.Linear(16, 10))
        )

    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", dropping)
    runs = [play(method="local-loss", rounds=1, cut=1, world=world(*speeds)) for speeds in ((1e3, 1e6), (1e6, 1e3))]
    assert torch.equal(runs[0].weights["0.1.weight"], runs[1].weights["0.1.weight"])
    assert not torch.equal(runs[0].weights["1.1.weight"], runs[1].weights["1.1.weight"])
