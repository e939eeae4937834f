"""Fuse class-agnostic masks with a semantic map.

Shapes: C classes, H x W pixels.
Source: LAECIPS' ancestor in kubeedge/ianvs (largest masks first, class by summed logits, smaller masks over larger
ones); the majority vote is Semantic-Segment-Anything's rule. Differs: two gates, on purity and on the predicted IoU,
because bad masks degrade good semantics; and training weights (both ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from edgeai.collab.models.masks.source import Mask


@dataclass(frozen=True)
class Fused:
    """Fused labels of one frame."""

    labels: np.ndarray
    """[H,W] uint8."""
    weight: np.ndarray
    """Training weight of each pixel [H,W] float32 in [0, 1]: the purity of the mask that painted it, otherwise the
    class probability of the semantics."""
    num_painted: int
    """Masks that passed both gates."""


def fuse(logits: Tensor, masks: Sequence[Mask], *, purity_min: float, iou_min: float, vote: str = "logits") -> Fused:
    """Paint the masks over the semantics.

    Args:
        logits: Class logits of the semantics [C,H,W].
        masks: Mask proposals, in any order.
        purity_min: Minimum share of a mask's pixels whose semantic class is the mask's class.
        iou_min: Minimum predicted IoU of a mask.
        vote: Class of a mask: "logits" takes the largest sum of logits, "majority" the most frequent class.
    """
    scores = logits.detach().cpu().numpy()
    own = scores.argmax(0)  # semantics only: masks painted earlier do not affect the vote
    labels = own.astype(np.uint8)
    weight = logits.detach().softmax(0).amax(0).cpu().numpy().astype(np.float32)
    num_painted = 0
    for mask in sorted(masks, key=lambda m: int(m.mask.sum()), reverse=True):
        inside = own[mask.mask]
        if mask.iou_pred < iou_min or not inside.size:
            continue
        counts = np.bincount(inside, minlength=len(scores))
        winner = int((scores[:, mask.mask].sum(1) if vote == "logits" else counts).argmax())
        purity = counts[winner] / inside.size
        if purity < purity_min:
            continue
        labels[mask.mask] = winner
        weight[mask.mask] = purity
        num_painted += 1
    return Fused(labels, weight, num_painted)
