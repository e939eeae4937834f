"""Which inputs a model can take, and normalisation between its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from edgeai.core.errors import UsageError


def picture_shape(kind: str, shape: Sequence[int], *, least_px: int) -> tuple[int, int, int]:
    """Checks that samples are pictures [C, H, W] and not too small.

    Raises:
        UsageError: They are something else, or smaller.
    """
    if len(shape) != 3:
        raise wrong_shape(kind, "pictures [C, H, W]", shape)
    channels, height, width = shape
    if min(height, width) < least_px:
        raise UsageError(
            f"model {kind} takes pictures from {least_px}x{least_px} px on, these have {height}x{width}",
            hint="choose a smaller model, such as model.kind=cnn or mlp",
        )
    return channels, height, width


def wrong_shape(kind: str, wanted: str, shape: Sequence[int]) -> UsageError:
    """The error for samples that a model cannot take."""
    return UsageError(
        f"model {kind} takes {wanted}, these samples have the shape {list(shape)}",
        hint="choose a model that fits the data, such as model.kind=mlp, which takes any",
    )


def norm_layers(norm: str, channels: int, *, dims: int, num_groups: int = 8) -> list[nn.Module]:
    """Normalisation over channels, as no layer or one.

    Args:
        norm: group, batch or none.
        channels: Channels of the input.
        dims: Axes behind the channels, 1 or 2.
        num_groups: At most so many groups; always a divisor of the channels.
    """
    if norm == "group":
        return [nn.GroupNorm(math.gcd(channels, num_groups), channels)]
    if norm == "batch":
        return [nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm1d(channels)]
    return []


def chain(**layers: nn.Module) -> nn.Sequential:
    """A chain of layers by name."""
    found = nn.Sequential()
    for name, layer in layers.items():
        found.add_module(name, layer)
    return found
