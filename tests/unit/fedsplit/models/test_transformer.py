"""Oracles: 12 D^2 + 13 D parameters per block, torch's own encoder layer, and what causality forbids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.models import ModelConfig, TransformerConfig
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.models.transformer import Block


def num_params(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_tokens_patches_and_steps() -> None:
    tokens = build_model(TransformerConfig(width=8, num_heads=2, vocab=11), (5,), 3)
    assert [name for name, _ in tokens.named_children()] == ["embed", "block1", "block2", "head"]
    assert num_params(tokens[0]) == 11 * 8 + 5 * 8
    assert num_params(tokens[1]) == 12 * 8**2 + 13 * 8
    assert num_params(tokens[3]) == 2 * 8 + 8 * 3 + 3
    assert tokens(torch.randint(11, (2, 5))).shape == (2, 3)
    patches = build_model(TransformerConfig(width=8, num_heads=2), (3, 8, 12), 3)
    assert patches[0](torch.zeros(2, 3, 8, 12)).shape == (2, 6, 8)
    steps = build_model(TransformerConfig(width=8, num_heads=2, read="last"), (5, 4), 3)
    assert steps(torch.zeros(2, 5, 4)).shape == (2, 3)


def test_block_is_torchs_encoder_layer() -> None:
    block = Block(8, num_heads=2, mlp_width=12, causal=False)
    torchs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    names = {
        "norm1": "norm1", "norm2": "norm2", "project": "self_attn.out_proj", "mlp.0": "linear1", "mlp.2": "linear2",
    }  # fmt: skip
    state = {f"{theirs}.{part}": block.state_dict()[f"{ours}.{part}"]
             for ours, theirs in names.items() for part in ("weight", "bias")}  # fmt: skip
    state |= {f"self_attn.in_proj_{part}": block.state_dict()[f"qkv.{part}"] for part in ("weight", "bias")}
    torchs.load_state_dict(state)
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(block(x), torchs(x))


def test_causal_positions_do_not_see_what_follows() -> None:
    x = torch.randint(11, (1, 6))
    other = x.clone()
    other[0, 4] = (x[0, 4] + 1) % 11
    for causal in (True, False):
        cfg = TransformerConfig(width=8, num_heads=2, vocab=11, causal=causal, read="all")
        model = build_model(cfg, (6,), 11)
        same = torch.isclose(model(x), model(other)).all(-1)[0]
        assert same[:4].all().item() is causal
        assert not same[4:].any()


def test_seven_billion_parameters_need_no_memory() -> None:
    cfg = TransformerConfig(width=4096, num_layers=32, num_heads=32, vocab=32_000, causal=True, read="all")
    with torch.device("meta"):
        model = build_model(cfg, (2048,), 32_000)
    width = 4096
    expected = 32 * (12 * width**2 + 13 * width) + (32_000 + 2048) * width + 2 * width + 32_000 * (width + 1)
    assert num_params(model) == expected > 6.7e9


@pytest.mark.parametrize(
    ("cfg", "shape", "text"),
    [
        (TransformerConfig(), (1, 10, 8), "model.patch: images of 10x8 px cannot be divided into patches of 4 px"),
        (TransformerConfig(vocab=9), (7, 5), "model transformer with model.vocab takes tokens [T], these samples have"
         " the shape [7, 5]"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(cfg: ModelConfig, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(cfg, shape, 10)
    assert caught.value.message == text
