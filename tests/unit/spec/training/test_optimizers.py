"""Optimisers: every weight has exactly one, and Muon takes the inner matrices only."""

import pytest
import torch

from edgeai.spec.config.train import OptimConfig
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.training.optimizers import build_optimizers, learning_rate

SHAPE = HeadShape(
    hidden_size=16,
    target_hidden_size=16,
    intermediate_size=32,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    rms_norm_eps=1e-5,
    vocab_size=40,
    draft_vocab_size=20,
    aux_layers=(0, 1, 2),
    fc_norm=True,
    norm_output=True,
)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_weight_has_exactly_one_optimiser(kind):
    head = DraftHead(SHAPE)
    optimizers = build_optimizers(OptimConfig(kind=kind), head, muon_dtype=torch.float32)
    taken = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(taken) == sorted(id(p) for p in head.parameters())


def test_muon_takes_the_inner_matrices_and_leaves_norms_and_the_output_to_adamw():
    head = DraftHead(SHAPE)
    muon, adamw = build_optimizers(OptimConfig(kind="muon"), head, muon_dtype=torch.bfloat16)
    assert type(muon) is torch.optim.Muon
    names = {id(p): name for name, p in head.named_parameters()}
    inner = {names[id(p)] for p in muon.param_groups[0]["params"]}
    rest = {names[id(p)] for p in adamw.param_groups[0]["params"]}
    assert inner == {
        "fc.weight",
        *(f"midlayer.self_attn.{n}_proj.weight" for n in "qkvo"),
        *(f"midlayer.mlp.{n}_proj.weight" for n in ("gate", "up", "down")),
    }
    assert "lm_head.weight" in rest
    assert all(name == "lm_head.weight" or "norm" in name for name in rest)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_muon_step_is_orthogonal_and_as_large_as_adamws(dtype):
    """The update U of a matrix [O, I] has singular values near 0.2 sqrt(max(O, I)): RMS 0.2, as AdamW's usually is."""
    head = DraftHead(SHAPE)
    muon, _ = build_optimizers(OptimConfig(kind="muon", lr=1.0), head, muon_dtype=dtype)
    weight = head.midlayer.mlp.gate_proj.weight
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    muon.step()
    update = before - weight.detach()
    singular = torch.linalg.svdvals(update) / (0.2 * max(weight.shape) ** 0.5)
    # five Newton-Schulz iterations bring singular values into about [0.7, 1.2], not to exactly 1
    assert singular.min() > 0.5
    assert singular.max() < 1.4


def test_the_learning_rate_rises_peaks_and_falls_to_its_floor():
    config = OptimConfig(lr=2.0, warmup_frac=0.1, min_lr_frac=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.2, rel=0.02)
