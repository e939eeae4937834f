from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.methods.feature_pool import Pool
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LR = 0.05


def plain_round(
    tiny: nn.Sequential, batches: Any, *, server_epochs: int = 1, server_batch: int = 16
) -> tuple[list[nn.Module], nn.Module]:
    """The first round as a plain loop; client parts and the server's."""
    server, parts = copy.deepcopy(tiny[1:]), [copy.deepcopy(tiny[0]) for _ in SIZES]
    inputs = [batches(1, client) for client in range(3)]
    features = [[part(x).detach() for x, _ in own] for part, own in zip(parts, inputs, strict=True)]
    z_all = torch.cat([z for own in features for z in own])
    y_all = torch.cat([y for own in inputs for _, y in own])
    optim = torch.optim.SGD(server.parameters(), lr=LR)
    for epoch in range(server_epochs):
        generator = torch.Generator().manual_seed(derived_seed(0, 1, epoch, 11))
        for rows in torch.randperm(NUM, generator=generator).split(server_batch):
            optim.zero_grad()
            F.cross_entropy(server(z_all[rows]), y_all[rows]).backward()
            optim.step()
    for part, own, sent in zip(parts, inputs, features, strict=True):
        client_optim = torch.optim.SGD(part.parameters(), lr=LR)
        for (x, y), z in zip(own, sent, strict=True):
            leaf = z.clone().requires_grad_()
            F.cross_entropy(server(leaf), y).backward()
            client_optim.zero_grad()
            part(x).backward(leaf.grad)
            client_optim.step()
    return list(parts), server


def assert_close(found: nn.Module, expected: list[Tensor]) -> None:
    for value, other in zip(found.parameters(), expected, strict=True):
        torch.testing.assert_close(value.detach(), other.detach(), atol=1e-6, rtol=1e-5)


def mean(parts: list[nn.Module]) -> list[Tensor]:
    each = zip(*(part.parameters() for part in parts), strict=True)
    return [sum(size / NUM * value for size, value in zip(SIZES, values, strict=True)) for values in each]


@pytest.mark.parametrize("options", [{}, {"server_epochs": 2, "server_batch": 50}])
def test_equals_a_plain_loop(play: Any, batches: Any, tiny: nn.Sequential, options: dict[str, int]) -> None:
    model = play(method={"kind": "cyclesl", **options}, rounds=1).sim.method.global_model.model
    parts, server = plain_round(tiny, batches, **options)
    assert_close(model[1:], list(server.parameters()))
    assert_close(model[0], mean(parts))


def test_without_sync_the_parts_stay_private(play: Any, batches: Any, tiny: nn.Sequential) -> None:
    sim = play(method={"kind": "cyclesl", "sync": False}, rounds=1).sim
    parts, server = plain_round(tiny, batches)
    assert_close(sim.method.global_model.model[1:], list(server.parameters()))
    for client, part in enumerate(parts):
        [own] = [one for one in sim.method.evaluated(sim.devices.kept) if one.client == client]
        assert_close(own.module[0], list(part.parameters()))
    assert sim.ledger.totals.up["weights"] == sim.ledger.totals.down["weights"] == 0


def test_bytes_are_those_of_split_learning(play: Any) -> None:
    cycle, relay = play(method="cyclesl").sim.ledger.totals, play(method="relay").sim.ledger.totals
    assert (cycle.up, cycle.down) == (relay.up, relay.down)


def test_one_exchange_takes_its_stages_in_turn(play: Any, world: Any) -> None:
    flops = {"c": 2 * 8 * 8 * 4 * 9, "s": 2 * (4 * 4 * 8 * 4 * 9 + 32 * 16 + 16 * 10)}  # forward, one sample
    slow = play((48,), method="cyclesl", rounds=1, world=world(1e5))
    assert slow.report.seconds == pytest.approx(48 * 4 * flops["c"] / 1e5)  # once without, once with a backward pass
    slow = play((48,), method="cyclesl", rounds=1, world=world(server_flops_per_s=1e5))
    assert slow.report.seconds == pytest.approx(48 * (3 + 2) * flops["s"] / 1e5)


def test_top_k_gradients_answer_their_own_batches(play: Any) -> None:
    played = play(method="cyclesl", codec={"up": {"kind": "topk", "k": 8}, "down": {"kind": "topk", "k": 8}})
    assert played.sim.ledger.totals.up["activations"] == 2 * NUM * 8 * 4
    assert played.sim.ledger.totals.down["gradients"] == 2 * NUM * 8 * 4
    assert played.sim.ledger.totals.down["side"] == 0


@pytest.mark.parametrize("sync", [True, False])
def test_resumes_to_the_bit(play: Any, sync: bool) -> None:
    config = {"method": {"kind": "cyclesl", "sync": sync}, "cut": ["conv1", "conv2"], "rounds": 3}
    whole, resumed = play(**config), play(**config, resume_after=2)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.client_accuracy == whole.report.client_accuracy
    for client in range(3):
        for name, value in whole.sim.devices.kept(client).items():
            assert torch.equal(resumed.sim.devices.kept(client)[name], value)


def test_fewer_and_late_clients(play: Any, world: Any) -> None:
    played = play(method="cyclesl", world={"participation": {"per_round": 2}})
    assert len(played.sim.world.cohort(1).selected) == 2
    late = play(method="cyclesl", rounds=1, world=world(1e3) | {"participation": {"deadline_s": 0.001}})
    for name, value in late.sim.setup.model.weights().items():
        assert torch.equal(late.weights[name], value)


def test_a_pool_gives_every_row_once() -> None:
    pool = Pool()
    pool.add(2, torch.arange(5).float(), torch.arange(5))
    pool.add(1, torch.arange(10, 14).float(), torch.arange(10, 14))
    pool.add(2, torch.arange(5, 7).float(), torch.arange(5, 7))
    assert pool.num_bytes == 11 * (4 + 8)
    batches = list(pool.batches(3, seed=0))
    assert sorted(len(y) for _, (_, y) in batches) == [1, 1, 3, 3, 3]
    for position, (z, y) in batches:
        assert torch.equal(z, y.float())
        assert all((row >= 10) == (position == 1) for row in y.tolist())
    rows = [row for _, (_, y) in batches for row in y.tolist()]
    assert sorted(rows) == [*range(7), *range(10, 14)]
    assert rows != sorted(rows)
