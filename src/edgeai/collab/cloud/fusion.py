"""Masks without classes and semantics without sharp edges become one labelled map.

Shapes: C classes, H x W pixels. Source: LAECIPS' ancestor in kubeedge/ianvs (largest masks first, class by summed
logits, smaller masks over larger ones); the majority vote is Semantic-Segment-Anything's rule.
Differs: two gates, on purity and on the expected IoU, since bad masks spoil good semantics; and weights (both ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """One proposed object or region, without a class."""

    mask: np.ndarray
    """[H,W] bool."""
    iou_pred: float
    """How well its source expects it to fit, as IoU; 1 where the source does not say."""


@dataclass(frozen=True)
class Fused:
    """The cloud's answer to one frame."""

    labels: np.ndarray
    """[H,W] uint8."""
    weight: np.ndarray
    """How much training may rely on each pixel [H,W] float32 in [0, 1]: the purity of the mask that painted it, else
    the semantics' own probability of its class."""
    num_painted: int
    """Masks that passed the gates."""


def fuse(logits: Tensor, masks: Sequence[Mask], *, purity_min: float, iou_min: float, vote: str = "logits") -> Fused:
    """Paint the masks over the semantics.

    Args:
        logits: Class logits of the semantics [C,H,W].
        masks: Proposals in any order.
        purity_min: Least share of a mask's pixels whose own best class is the mask's.
        iou_min: Least expected IoU of a mask.
        vote: "logits": a mask's class has the largest sum of logits in it; "majority": it is its pixels' most frequent.
    """
    scores = logits.detach().cpu().numpy()
    own = scores.argmax(0)  # of the semantics alone: what is painted first has no vote later
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
