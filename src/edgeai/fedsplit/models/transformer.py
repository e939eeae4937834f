"""A transformer that normalises before each part (Xiong et al. 2020), over tokens, patches of a picture, or steps.

Shapes: b samples, T positions, D width, A heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.models import TransformerConfig
from edgeai.fedsplit.models.input_shapes import chain, wrong_shape

_POSITION_STD = 0.02


class Embed(nn.Module):
    """What a sample becomes for the blocks, and where each part of it stands.

    Args:
        layer: Tokens, patches or steps to vectors.
        length: T.
        width: D.
        has_grid: The layer returns [b, D, h, w] instead of [b, T, D].
    """

    def __init__(self, layer: nn.Module, *, length: int, width: int, has_grid: bool = False) -> None:
        super().__init__()
        self.layer, self.has_grid = layer, has_grid
        self.position = nn.Parameter(_POSITION_STD * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Samples to [b, T, D]."""
        vectors: Tensor = self.layer(x)
        if self.has_grid:
            vectors = vectors.flatten(2).transpose(1, 2)
        return vectors + self.position


class Block(nn.Module):
    """Attention and a fully connected part, each added to what it was given.

    Args:
        width: D.
        num_heads: A.
        mlp_width: Of the hidden layer.
        causal: Positions see only what lies before them, and themselves.
    """

    def __init__(self, width: int, *, num_heads: int, mlp_width: int, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[b, T, D] to the same."""
        num, length, width = x.shape
        heads = (
            self.qkv(self.norm1(x)).view(num, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        )  # [3, b, A, T, D/A]
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=self.causal)
        x = x + self.project(seen.transpose(1, 2).reshape(num, length, width))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Head(nn.Module):
    """Class scores.

    Args:
        width: D.
        num_classes: Outputs.
        read: mean of all positions, the last one, or all: one output a position.
    """

    def __init__(self, width: int, num_classes: int, *, read: str) -> None:
        super().__init__()
        self.norm, self.out, self.read = nn.LayerNorm(width), nn.Linear(width, num_classes), read

    def forward(self, x: Tensor) -> Tensor:
        """[b, T, D] to [b, classes], or [b, T, classes]."""
        x = self.norm(x)
        if self.read != "all":
            x = x.mean(1) if self.read == "mean" else x[:, -1]
        scores: Tensor = self.out(x)
        return scores


def transformer(cfg: TransformerConfig, shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Embedding, blocks, head.

    Raises:
        UsageError: Samples of another shape, or pictures that no whole patches fill.
    """
    layers: dict[str, nn.Module] = {"embed": _embed(cfg, shape)}
    for number in range(1, cfg.num_layers + 1):
        layers[f"block{number}"] = Block(
            cfg.width, num_heads=cfg.num_heads, mlp_width=round(cfg.mlp_ratio * cfg.width), causal=cfg.causal
        )
    return chain(**layers, head=Head(cfg.width, num_classes, read=cfg.read))


def _embed(cfg: TransformerConfig, shape: Sequence[int]) -> Embed:
    if cfg.vocab is not None:
        if len(shape) != 1:
            raise wrong_shape("transformer with model.vocab", "tokens [T]", shape)
        return Embed(nn.Embedding(cfg.vocab, cfg.width), length=shape[0], width=cfg.width)
    if len(shape) == 2:
        return Embed(nn.Linear(shape[1], cfg.width), length=shape[0], width=cfg.width)
    if len(shape) != 3:
        raise wrong_shape("transformer", "pictures [C, H, W], steps [T, F], or tokens [T] with model.vocab", shape)
    channels, height, width = shape
    if height % cfg.patch or width % cfg.patch:
        raise UsageError(
            f"model.patch: patches of {cfg.patch} px do not fill pictures of {height}x{width}",
            hint="choose a patch that divides both",
        )
    patches = nn.Conv2d(channels, cfg.width, cfg.patch, stride=cfg.patch)
    length = (height // cfg.patch) * (width // cfg.patch)
    return Embed(patches, length=length, width=cfg.width, has_grid=True)
