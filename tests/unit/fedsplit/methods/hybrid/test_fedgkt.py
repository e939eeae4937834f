from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.methods.auxiliary_nets import build_heads
from edgeai.fedsplit.methods.hybrid.fedgkt import distillation_loss
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LR, T, ALPHA = 0.05, 2.0, 0.5


def blended(logits: Tensor, y: Tensor, teacher: Tensor | None) -> Tensor:
    """Cross-entropy and the divergence from the teacher, written out."""
    loss = -logits.softmax(1).log()[torch.arange(len(y)), y].mean()
    if teacher is None:
        return loss
    p, q = (teacher / T).softmax(1), (logits / T).softmax(1)
    return loss + ALPHA * T * T * (p * (p / q).log()).sum(1).mean()


def plain_rounds(sim: Any, tiny: nn.Sequential, batches: Any, num_rounds: int) -> tuple[list[nn.Module], nn.Module]:
    """Rounds as a plain loop; each client's layers, and the server's."""
    parts = [copy.deepcopy(tiny[0]) for _ in SIZES]
    heads = [build_heads(sim.setup)[1].module for _ in SIZES]
    server, taught = copy.deepcopy(tiny[1:]), [None] * 3
    for number in range(1, num_rounds + 1):
        features, sent = [], []
        for client, (part, head) in enumerate(zip(parts, heads, strict=True)):
            samples = sim.clients[client]
            optim = torch.optim.SGD([*part.parameters(), *head.parameters()], lr=LR)
            generator = torch.Generator().manual_seed(derived_seed(0, number, client, 0, 1))
            rows = torch.randperm(len(samples), generator=generator).split(16)
            for some, (x, y) in zip(rows, batches(number, client), strict=True):
                teacher = None if taught[client] is None else taught[client][some]
                optim.zero_grad()
                blended(head(part(x)), y, teacher).backward()
                optim.step()
            features.append(part(samples.x).detach())
            sent.append(head(features[-1]).detach())
        z, logits = torch.cat(features), torch.cat(sent)
        y = torch.cat([samples.y for samples in sim.clients])
        optim = torch.optim.SGD(server.parameters(), lr=LR)
        generator = torch.Generator().manual_seed(derived_seed(0, number, 0, 14))
        for rows in torch.randperm(NUM, generator=generator).split(16):
            optim.zero_grad()
            blended(server(z[rows]), y[rows], logits[rows]).backward()
            optim.step()
        taught = list(server(z).detach().split(SIZES))
    return list(parts), server


@pytest.mark.parametrize("num_rounds", [1, 2])
def test_equals_a_plain_loop(play: Any, batches: Any, tiny: nn.Sequential, num_rounds: int) -> None:
    method = {"kind": "fedgkt", "temperature": T, "alpha": ALPHA}
    sim = play(method=method, rounds=num_rounds).sim
    parts, server = plain_rounds(sim, tiny, batches, num_rounds)
    for one, part in zip(sim.method.evaluated(sim.devices.kept), parts, strict=True):
        expected = [*part.parameters(), *server.parameters()]
        for value, other in zip(one.module.parameters(), expected, strict=True):
            torch.testing.assert_close(value.detach(), other.detach(), atol=1e-5, rtol=1e-4)


def test_a_teacher_who_agrees_teaches_nothing() -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 1, 2, 0, 1])
    alone = F.cross_entropy(logits, y)
    assert torch.equal(distillation_loss(logits, y, None, 3.0, 1.0), alone)
    torch.testing.assert_close(distillation_loss(logits, y, logits.detach() + 7.0, 3.0, 1.0), alone)
    assert distillation_loss(logits, y, -logits.detach(), 3.0, 1.0) > alone


@pytest.mark.parametrize("epochs", [1, 3])
def test_bytes_are_the_formula(play: Any, epochs: int) -> None:
    totals = play(method="fedgkt", rounds=1, local_epochs=epochs).sim.ledger.totals
    logits = NUM * 10 * 4
    assert totals.up == {
        "activations": NUM * 256,
        "gradients": 0,
        "weights": 0,
        "labels": NUM * 8,
        "side": logits,
    }
    assert totals.down == {"activations": 0, "gradients": 0, "weights": 0, "labels": 0, "side": logits}


def test_stages_follow_each_other(play: Any, world: Any) -> None:
    part, head, rest = 2 * 8 * 8 * 4 * 9, 2 * 64 * 10, 2 * (4 * 4 * 8 * 4 * 9 + 32 * 16 + 16 * 10)  # forward, a sample
    device = play((48,), method="fedgkt", rounds=1, world=world(1e5)).report
    assert device.seconds == pytest.approx(48 * (3 + 1) * (part + head) / 1e5)
    server = play((48,), method="fedgkt", rounds=1, world=world(server_flops_per_s=1e5)).report
    assert server.seconds == pytest.approx(48 * (3 + 1) * rest / 1e5)
    assert device.client_held_bytes == 0


def test_resumes_to_the_bit(play: Any) -> None:
    config = {"method": "fedgkt", "rounds": 3, "cut": ["conv1", "conv2"]}
    whole, resumed = play(**config), play(**config, resume_after=1)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.client_accuracy == whole.report.client_accuracy


def test_who_is_late_is_not_heard_and_not_told(play: Any, world: Any) -> None:
    late = world(1e3, 1e9, 1e9) | {"participation": {"deadline_s": 5.0}}
    sim = play(method="fedgkt", rounds=1, world=late).sim
    assert sim.ledger.of_client(0).down["side"] == 0
    assert [sim.ledger.of_client(client).down["side"] for client in (1, 2)] == [56 * 40, 33 * 40]
    assert "server/logits" not in sim.devices.kept(0)
    assert "server/logits" in sim.devices.kept(1)


def test_nobody_in_time_changes_nothing_at_the_server(play: Any, world: Any) -> None:
    slow = world(1e3) | {"participation": {"deadline_s": 0.001}}
    played = play(method="fedgkt", rounds=1, world=slow)
    for name, value in played.sim.setup.model.weights().items():
        assert torch.equal(played.weights[name], value)
    assert played.report.rounds[0].loss is None


def test_fewer_clients(play: Any) -> None:
    played = play(method="fedgkt", world={"participation": {"per_round": 1}})
    assert played.report.rounds[1].num_clients == 1


def test_warns_under_dp_sgd(play: Any) -> None:
    private = play((33,), method="fedgkt", rounds=1, privacy={"dp_sgd": {"noise_multiplier": 0.0}})
    assert private.history.warnings == (
        "DP-SGD covers the layers before the cut, not the heads, whose logits are sent",
    )
