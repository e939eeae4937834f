"""Class-agnostic masks and the protocol of their sources.

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """One proposed object or region, without a class."""

    mask: np.ndarray
    """[H,W] bool."""
    iou_pred: float
    """IoU that the source predicts for the mask; 1 if the source predicts none."""


class MaskSource(Protocol):
    """Proposes masks for a frame."""

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """Return masks for an RGB frame [H,W,3] uint8, given the logits of the semantics [C,H,W]."""


class NoMaskSource:
    """Proposes no masks, so that the semantics stay unchanged."""

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """Return an empty list."""
        return []
