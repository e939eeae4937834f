"""Checks of input shapes, and building blocks that all models share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from edgeai.core.errors import UsageError


def image_shape(kind: str, shape: Sequence[int], *, least_px: int) -> tuple[int, int, int]:
    """Check that samples are images [C, H, W] of at least `least_px` px; return their shape.

    Raises:
        UsageError: They are not.
    """
    if len(shape) != 3:
        raise wrong_shape(kind, "images [C, H, W]", shape)
    channels, height, width = shape
    if min(height, width) < least_px:
        raise UsageError(
            f"model {kind} takes images of at least {least_px}x{least_px} px, these have {height}x{width}",
            hint="choose a smaller model, such as model.kind=cnn or mlp",
        )
    return channels, height, width


def wrong_shape(kind: str, wanted: str, shape: Sequence[int]) -> UsageError:
    """Return the error for samples of an unsuitable shape."""
    return UsageError(
        f"model {kind} takes {wanted}, these samples have the shape {list(shape)}",
        hint="choose a model that fits the data, such as model.kind=mlp, which takes any shape",
    )


def norm_layers(norm: str, channels: int, *, dims: int, num_groups: int = 8) -> list[nn.Module]:
    """Return a list with one normalization layer, or an empty list.

    Args:
        norm: Kind of normalization: group, batch or none.
        channels: Number of input channels.
        dims: Number of axes after the channels, 1 or 2.
        num_groups: Largest number of groups; the actual number divides the channels.
    """
    if norm == "group":
        return [nn.GroupNorm(math.gcd(channels, num_groups), channels)]
    if norm == "batch":
        return [nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm1d(channels)]
    return []


def chain(**layers: nn.Module) -> nn.Sequential:
    """Return the layers as nn.Sequential, named by their keywords."""
    found = nn.Sequential()
    for name, layer in layers.items():
        found.add_module(name, layer)
    return found
