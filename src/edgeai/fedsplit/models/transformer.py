"""Pre-norm transformer (Xiong et al. 2020) over tokens, image patches, or steps.

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
    """Embedding of a sample with learned position vectors.

    Args:
        layer: Layer that maps tokens, patches or steps to vectors.
        length: Number of positions: T.
        width: Model width: D.
        has_grid: Whether the layer returns [b, D, h, w] instead of [b, T, D].
    """

    def __init__(self, layer: nn.Module, *, length: int, width: int, has_grid: bool = False) -> None:
        super().__init__()
        self.layer, self.has_grid = layer, has_grid
        self.position = nn.Parameter(_POSITION_STD * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map samples to [b, T, D]."""
        vectors: Tensor = self.layer(x)
        if self.has_grid:
            vectors = vectors.flatten(2).transpose(1, 2)
        return vectors + self.position


class Block(nn.Module):
    """Transformer block: attention and MLP, each with a residual connection.

    Args:
        width: Model width: D.
        num_heads: Number of attention heads: A.
        mlp_width: Hidden width of the MLP.
        causal: Whether a position attends only to itself and earlier positions.
    """

    def __init__(self, width: int, *, num_heads: int, mlp_width: int, causal: bool) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, T, D] to [b, T, D]."""
        num, length, width = x.shape
        heads = (
            self.qkv(self.norm1(x)).view(num, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        )  # [3, b, A, T, D/A]
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=self.causal)
        x = x + self.project(seen.transpose(1, 2).reshape(num, length, width))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Head(nn.Module):
    """Classification head.

    Args:
        width: Model width: D.
        num_classes: Number of outputs.
        read: Positions that are read: mean, last, or all for one output per position.
    """

    def __init__(self, width: int, num_classes: int, *, read: str) -> None:
        super().__init__()
        self.norm, self.out, self.read = nn.LayerNorm(width), nn.Linear(width, num_classes), read

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, T, D] to [b, classes], or to [b, T, classes]."""
        x = self.norm(x)
        if self.read != "all":
            x = x.mean(1) if self.read == "mean" else x[:, -1]
        scores: Tensor = self.out(x)
        return scores


def transformer(cfg: TransformerConfig, shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return embedding, blocks and head.

    Raises:
        UsageError: The samples have an unsuitable shape, or image sizes are not multiples of the patch size.
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
        raise wrong_shape("transformer", "images [C, H, W], steps [T, F], or tokens [T] with model.vocab", shape)
    channels, height, width = shape
    if height % cfg.patch or width % cfg.patch:
        raise UsageError(
            f"model.patch: images of {height}x{width} px cannot be divided into patches of {cfg.patch} px",
            hint="choose a patch size that divides both",
        )
    patches = nn.Conv2d(channels, cfg.width, cfg.patch, stride=cfg.patch)
    length = (height // cfg.patch) * (width // cfg.patch)
    return Embed(patches, length=length, width=cfg.width, has_grid=True)
