"""Conversion of frames to a net's input.

Shapes: B images, H x W frame pixels, h x w input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputFormat:
    """Normalization x = (pixel / 255 - mean) / std, channel order and size of a net's input."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    order: str = "rgb"
    """Channel order, rgb or bgr, also of mean and std."""
    size_px: tuple[int, int] | None = None
    """Height and width of the input; None keeps the frame size."""

    def tensor(self, images: Tensor) -> Tensor:
        """Return the normalized input [B,3,h,w] of RGB images [B,H,W,3] uint8."""
        x = images.permute(0, 3, 1, 2).float() / 255.0  # stays channels-last in memory, which is faster
        if self.order == "bgr":
            x = x.flip(1)
        mean, std = (torch.tensor(values, device=x.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        x = (x - mean) / std
        if self.size_px is not None and self.size_px != tuple(x.shape[-2:]):
            x = F.interpolate(x, self.size_px, mode="bilinear", align_corners=False, antialias=True)
        return x


def stack_images(images: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    """Stack images of one size [H,W,3] to a batch [B,H,W,3] uint8."""
    return torch.from_numpy(np.stack(images)).to(device)
