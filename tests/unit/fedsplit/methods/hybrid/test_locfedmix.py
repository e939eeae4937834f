from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.hybrid.locfedmix import LocFedMix, mixed_losses
from edgeai.fedsplit.protocol.batching import derived_seed

SIZES = (40, 56, 33)
NUM = sum(SIZES)
LR, ALPHA = 0.05, 0.4
C_BYTES, DECODER_BYTES = 4 * 40, 4 * (4 * 2 * 2 + 1)


def first_decoder(play: Any) -> nn.Module:
    """As a run starts with it: learnt with so small a rate that nothing moves."""
    sim = play(method="locfedmix-sl", rounds=1, optim={"lr": 1e-30}).sim
    return copy.deepcopy(sim.method.modules()["decoder.1"])


def plain_round(tiny: nn.Sequential, decoder: nn.Module, batches: Any, weight: float) -> list[list[torch.Tensor]]:
    """Three lock-steps; each client's layers and decoder, and last the server's."""
    parts = [nn.ModuleList([copy.deepcopy(tiny[0]), copy.deepcopy(decoder)]) for _ in SIZES]
    server = copy.deepcopy(tiny[1:])
    for step in range(3):
        data = [batches(1, client)[step] for client in range(3)]
        random = np.random.default_rng(derived_seed(0, 1, step + 1, 12))
        circle = random.permutation([0, 1, 2]).tolist()
        z = [part[0](x) for part, (x, _) in zip(parts, data, strict=True)]
        y = [labels for _, labels in data]
        mixed = []
        for place in range(3):
            one, other = circle[place], circle[(place + 1) % 3]
            share = random.beta(ALPHA, ALPHA)
            size = min(len(y[one]), len(y[other]))
            logits = server(share * z[one][:size] + (1 - share) * z[other][:size])
            for who, its_share in ((one, share), (other, 1 - share)):
                mixed.append(its_share * F.cross_entropy(logits, y[who][:size], reduction="sum"))
        num_mixed = sum(min(len(y[circle[place]]), len(y[circle[(place + 1) % 3]])) for place in range(3))
        merged = F.cross_entropy(server(torch.cat(z)), torch.cat(y))
        of_server = torch.autograd.grad(merged + sum(mixed) / num_mixed, list(server.parameters()), retain_graph=True)
        of_parts = []
        for part, own_z, (x, labels) in zip(parts, z, data, strict=True):
            own = F.cross_entropy(server(own_z), labels) + weight * ((part[1](own_z) - x) ** 2).mean()
            of_parts.append(torch.autograd.grad(own, list(part.parameters()), retain_graph=True))
        for module, gradients in zip([server, *parts], [of_server, *of_parts], strict=True):
            for value, gradient in zip(module.parameters(), gradients, strict=True):
                value.data -= LR * gradient
    return [list(module.parameters()) for module in (*parts, server)]


def test_equals_a_plain_loop(play: Any, batches: Any, tiny: nn.Sequential) -> None:
    sim = play(method={"kind": "locfedmix-sl", "reconstruct": 2.0}, rounds=1).sim
    *parts, server = plain_round(tiny, first_decoder(play), batches, 2.0)
    found = [*sim.method.global_model.model[0].parameters(), *sim.method.modules()["decoder.1"].parameters()]
    for value, own in zip(found, zip(*parts, strict=True), strict=True):
        mean = sum(size / NUM * one for size, one in zip(SIZES, own, strict=True))
        torch.testing.assert_close(value.detach(), mean.detach(), atol=1e-6, rtol=1e-5)
    for value, other in zip(sim.method.global_model.model[1:].parameters(), server, strict=True):
        torch.testing.assert_close(value.detach(), other.detach(), atol=1e-6, rtol=1e-5)


def test_one_client_without_reconstruction_is_split_learning(play: Any) -> None:
    alone = play((40,), method={"kind": "locfedmix-sl", "reconstruct": 0.0})
    relay = play((40,), method="relay")
    for name, value in relay.weights.items():
        torch.testing.assert_close(alone.weights[name], value, atol=1e-7, rtol=1e-6)


def test_a_mixed_loss_is_between_those_of_its_pair() -> None:
    torch.manual_seed(0)
    tail, z = nn.Linear(4, 3), {5: torch.randn(6, 4), 7: torch.randn(2, 4)}
    labels = {5: torch.tensor([0, 1, 2, 0, 1, 2]), 7: torch.tensor([1, 1])}
    assert mixed_losses(tail, z, labels, [5], 1.0, np.random.default_rng(0)) == []
    near_ends = 1e-3  # Beta(a, a) with a small a draws shares close to 0 or 1
    losses = mixed_losses(tail, z, labels, [5, 7], near_ends, np.random.default_rng(1))
    pure = {who: F.cross_entropy(tail(z[who][:2]), labels[who][:2], reduction="none") for who in (5, 7)}
    assert [len(loss) for loss in losses] == [2, 2]
    for loss in losses:
        assert any(torch.allclose(loss, whole, atol=1e-3) for whole in pure.values())


def test_bytes_are_the_formula(play: Any) -> None:
    totals = play(method={"kind": "locfedmix-sl", "uneven": "shrink"}, rounds=1).sim.ledger.totals
    weights = 3 * (C_BYTES + DECODER_BYTES)
    assert totals.up == {
        "activations": NUM * 256,
        "gradients": 0,
        "weights": weights,
        "labels": NUM * 8,
        "side": 0,
    }
    assert totals.down == {"activations": 0, "gradients": NUM * 256, "weights": weights, "labels": 0, "side": 0}


def test_a_flat_cut_has_a_linear_decoder(play: Any) -> None:
    sim = play(method="locfedmix-sl", rounds=1, cut="fc").sim
    assert sim.ledger.totals.down["weights"] == 3 * 4 * (40 + 296 + 528 + 16 * 64 + 64)


@pytest.mark.parametrize("privacy", [{}, {"noise": {"scale": 0.1}}])
def test_resumes_to_the_bit(play: Any, privacy: dict[str, Any]) -> None:
    config = {"method": "locfedmix-sl", "rounds": 2, "cut": ["conv1", "conv2", "conv1"], "privacy": privacy}
    whole, resumed = play(**config), play(**config, resume_after=1)
    assert resumed.report.weights_hash == whole.report.weights_hash


def test_clipping_nothing_changes_nothing(play: Any) -> None:
    private = play(
        method={"kind": "locfedmix-sl", "reconstruct": 2.0},
        rounds=1,
        privacy={"dp_sgd": {"clip": 1e6, "noise_multiplier": 0.0}},
    )
    plain = play(method={"kind": "locfedmix-sl", "reconstruct": 2.0}, rounds=1)
    assert private.weights.keys() == plain.weights.keys()
    for name, value in plain.weights.items():
        torch.testing.assert_close(private.weights[name], value, atol=1e-5, rtol=1e-4)
    for one, other in zip(
        private.sim.method.modules()["decoder.1"].parameters(),
        plain.sim.method.modules()["decoder.1"].parameters(),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_warns_beside_nopeek(play: Any) -> None:
    both = play(method="locfedmix-sl", rounds=1, privacy={"nopeek": {}})
    assert both.history.warnings == (
        "NoPeek removes information about the inputs from the smashed data, but locfedmix-sl's reconstruction loss "
        "preserves it; set method.reconstruct to 0, or leave privacy.nopeek empty",
    )
    off = {"kind": "locfedmix-sl", "reconstruct": 0.0}
    assert play(method=off, rounds=1, privacy={"nopeek": {}}).history.warnings == ()
    assert play(method="locfedmix-sl", rounds=1).history.warnings == ()


def test_fewer_and_late_clients(play: Any, world: Any) -> None:
    play(method="locfedmix-sl", world={"participation": {"per_round": 1}})
    late = play(method="locfedmix-sl", rounds=1, world=world(1e3) | {"participation": {"deadline_s": 0.001}})
    for name, value in late.sim.setup.model.weights().items():
        assert torch.equal(late.weights[name], value)


def test_refuses_tokens(play: Any) -> None:
    setup = play(method="psl", rounds=1).sim.setup
    reader = nn.Sequential(nn.Sequential(nn.Embedding(5, 4), nn.Flatten()), nn.Linear(32, 10))
    with pytest.raises(UsageError) as caught:
        LocFedMix(replace(setup, model=SplitModel(reader, (8,), torch.int64)))
    assert str(caught.value) == "locfedmix-sl reconstructs inputs from smashed data, but these inputs are tokens"
    assert caught.value.hint == "choose another method, such as psl"
