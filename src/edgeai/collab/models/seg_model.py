"""The protocol of segmentation models.

Shapes: B images, C stream classes, F pooled features, H x W frame pixels.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor, nn

from edgeai.core.errors import UsageError


class SegModel(Protocol):
    """A segmentation model of any runtime. Images are RGB uint8 [H,W,3]."""

    classes: tuple[str, ...]
    """The stream's classes, in the order of the logits."""
    frozen_reason: str
    """Reason why the model cannot be trained; empty if it can."""

    @property
    def trainable(self) -> nn.Module | None:
        """The module to train, in eval mode between updates; None if the model is frozen."""

    @property
    def digest(self) -> str:
        """Short hash of the current weights."""

    def logits(self, image: np.ndarray) -> Tensor:
        """Return class logits [C,H,W] at frame size, without gradients."""

    def features(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return class logits [C,H,W] and pooled features [F] of one image, without gradients."""

    def forward_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits [B,C,H,W] and pooled features [B,F] of images [B,H,W,3] uint8.

        Differentiable if the model is trainable.
        """


def trainable_net(model: SegModel) -> nn.Module:
    """Return the module that adaptation changes.

    Raises:
        UsageError: The model is frozen.
    """
    if model.trainable is None:
        raise UsageError(
            f"the edge model cannot be adapted: {model.frozen_reason}",
            hint="use a trainable edge model, or a strategy that does not adapt it",
        )
    return model.trainable
