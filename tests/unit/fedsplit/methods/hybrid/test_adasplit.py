from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.methods.hybrid.contrastive_loss import contrastive_loss
from edgeai.fedsplit.methods.hybrid.orchestrator import Orchestrator

SIZES = (40, 56, 33)
LR = 0.05


def plain_contrastive(features: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Pair by pair, as the paper writes it."""
    unit = features / features.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(y)):
        others = [k for k in range(len(y)) if k != i]
        companions = [k for k in others if y[k] == y[i]]
        if companions:
            total = sum(torch.exp(unit[i] @ unit[k] / temperature) for k in others)
            shares = [torch.log(torch.exp(unit[i] @ unit[k] / temperature) / total) for k in companions]
            losses.append(-sum(shares) / len(companions))
    return sum(losses) / len(losses) if losses else features.sum() * 0


def test_contrastive_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    features, y = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 0, 2, 1, 0, 3])
    torch.testing.assert_close(contrastive_loss(features, y, 0.5), plain_contrastive(features, y, 0.5))
    alone = contrastive_loss(features[:3].requires_grad_(), torch.tensor([0, 1, 2]), 0.5)
    assert float(alone.detach()) == 0.0
    alone.backward()  # still has a graph, so that a step can be taken


def first_projection(play: Any) -> nn.Module:
    sim = play(method="adasplit", rounds=1).sim
    return copy.deepcopy(sim.method.projections[1].module)


def local_step(part: nn.Module, projection: nn.Module, optim: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    z = part(x)
    optim.zero_grad()
    plain_contrastive(projection(z), y, 0.1).backward()
    optim.step()
    return z.detach()


def test_local_phase_equals_a_plain_loop_and_moves_nothing(play: Any, batches: Any, tiny: nn.Sequential) -> None:
    played = play(method="adasplit", rounds=1)
    for client in range(3):
        part, projection = copy.deepcopy(tiny[0]), first_projection(play)
        optim = torch.optim.SGD([*part.parameters(), *projection.parameters()], lr=LR)
        for x, y in batches(1, client):
            local_step(part, projection, optim, x, y)
        kept = played.sim.devices.kept(client)
        for name, value in part.state_dict().items():
            torch.testing.assert_close(kept[f"conv1.{name}"], value, atol=1e-6, rtol=1e-4)
    assert played.sim.ledger.totals.num_bytes == 0
    assert math.isfinite(played.report.rounds[0].loss)


def test_global_phase_equals_a_plain_loop(play: Any, batches: Any, tiny: nn.Sequential) -> None:
    method = {"kind": "adasplit", "local_rounds": 0, "select_frac": 1.0, "sparsity": 0.5}
    sim = play(method=method, rounds=1).sim
    server = copy.deepcopy(tiny[1:])
    parts = [nn.ModuleList([copy.deepcopy(tiny[0]), first_projection(play)]) for _ in SIZES]
    masks = [[torch.ones_like(weight) for weight in server.parameters()] for _ in SIZES]
    for step in range(4):
        for client in range(3):
            if step >= len(batches(1, client)):
                continue
            x, y = batches(1, client)[step]
            optim = torch.optim.SGD(parts[client].parameters(), lr=LR)
            z = local_step(*parts[client], optim, x, y)
            masked = copy.deepcopy(server)
            for weight, mask in zip(masked.parameters(), masks[client], strict=True):
                weight.data *= mask
            F.cross_entropy(masked(z), y).backward()
            for place, (weight, used) in enumerate(zip(server.parameters(), masked.parameters(), strict=True)):
                mask = masks[client][place]
                moved = mask - LR * used.grad * weight.data
                weight.data -= LR * used.grad * mask
                masks[client][place] = torch.where(
                    moved > LR * 0.5, moved - LR * 0.5, torch.where(moved < -LR * 0.5, moved + LR * 0.5, 0.0)
                )
    for value, other in zip(sim.method.global_model.model[1:].parameters(), server.parameters(), strict=True):
        torch.testing.assert_close(value.detach(), other.detach(), atol=1e-6, rtol=1e-4)
    for client, own in enumerate(masks):
        for mask, other in zip(sim.method.masks[client].values(), own, strict=True):
            torch.testing.assert_close(mask, other, atol=1e-6, rtol=1e-4)
    used = sim.method.evaluated(sim.devices.kept)[1].module
    for value, weight, mask in zip(used[1:].parameters(), server.parameters(), masks[1], strict=True):
        torch.testing.assert_close(value.detach(), weight.detach() * mask, atol=1e-6, rtol=1e-4)


def test_masks_become_sparse(play: Any) -> None:
    method = {"kind": "adasplit", "local_rounds": 0, "select_frac": 1.0}
    dense = play(method=method, rounds=1).report.figures["mask_density_frac"]
    sparse = play(method=method | {"sparsity": 10.0}, rounds=2).report.figures["mask_density_frac"]
    assert (dense, sparse) == (1.0, 0.0)  # 2 rounds of at least 3 steps of 0.05 x 10 each take 1 to 0


def test_chooses_by_the_upper_confidence_bound() -> None:
    chooser = Orchestrator(discount=0.5)
    assert chooser.choose([0, 1, 2], 2) == [0, 1]  # all unknown: the first ones
    chooser.saw(0, 1.0)
    chooser.saw(1, 3.0)
    assert chooser.choose([0, 1, 2], 2) == [1, 2]  # one unknown, then the one with the larger loss
    chooser.saw(1, 1.0)
    chooser.saw(2, 0.5)
    chooser.choose([], 0)
    # client 1: losses 3 and 1, weighed 0.25 and 0.5 by now; t = 3
    assert chooser.score(1) == pytest.approx((3 * 0.25 + 1 * 0.5) / 0.75 + math.sqrt(2 * math.log(3) / 2))
    assert chooser.score(2) == pytest.approx(0.5 + math.sqrt(2 * math.log(3)))
    again = Orchestrator(discount=0.5)
    again.load_state(chooser.state())
    assert [again.score(client) for client in range(3)] == [chooser.score(client) for client in range(3)]


def test_only_chosen_devices_send(play: Any) -> None:
    method = {"kind": "adasplit", "local_rounds": 0, "select_frac": 0.5}
    totals = play((48, 48, 48), method=method, rounds=1).sim.ledger.totals
    num_sent = 3 * 2 * 16  # three iterations, two of three clients, a whole batch each
    assert totals.up == {"activations": num_sent * 256, "gradients": 0, "weights": 0, "labels": num_sent * 8, "side": 0}
    assert totals.down_bytes == 0


def test_devices_wait_for_the_orchestrators_word(play: Any, world: Any) -> None:
    method = {"kind": "adasplit", "local_rounds": 0, "select_frac": 0.5}
    rest = 2 * (4 * 4 * 8 * 4 * 9 + 32 * 16 + 16 * 10)
    slow = play((48, 48, 48), method=method, rounds=1, world=world(server_flops_per_s=1e5)).report
    assert slow.seconds == pytest.approx(3 * 2 * 16 * 3 * rest / 1e5)
    assert slow.client_held_bytes == 0


@pytest.mark.parametrize("resume_after", [1, 2])
def test_resumes_to_the_bit(play: Any, resume_after: int) -> None:
    config = {"method": {"kind": "adasplit", "sparsity": 0.1}, "rounds": 4, "cut": ["conv1", "conv2"]}
    whole, resumed = play(**config), play(**config, resume_after=resume_after)
    assert resumed.report.weights_hash == whole.report.weights_hash
    assert resumed.report.client_accuracy == whole.report.client_accuracy
    assert resumed.sim.ledger.totals == whole.sim.ledger.totals


def test_fewer_clients(play: Any) -> None:
    method = {"kind": "adasplit", "local_rounds": 0}
    played = play(method=method, world={"participation": {"per_round": 1}})
    assert played.report.rounds[1].num_clients == 1
    assert math.isfinite(played.report.rounds[1].loss)


def test_refuses_dp_sgd(play: Any) -> None:
    with pytest.raises(UsageError) as caught:
        play(method="adasplit", privacy={"dp_sgd": {}})
    assert str(caught.value) == (
        "adasplit's contrastive loss couples the samples of a batch: there is no per-sample gradient to clip"
    )
    assert caught.value.hint == "leave privacy.dp_sgd empty, or choose another method"
