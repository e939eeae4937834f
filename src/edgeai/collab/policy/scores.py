"""Classic confidence scores of a segmentation.

A score s lies in [0,1]; a high score means that the edge's answer suffices. With p the class probabilities of a pixel:

    max_prob             mean of max p
    margin               mean of (largest p - second largest p)
    entropy              mean of 1 - H(p) / ln C
    frac_above           share of pixels with max p > 0.9
    sedna_cross_entropy  mean over regions of 1 + sum p ln p / ln C, with p averaged over the region
    ibt                  share of regions whose mean max p is above 0.5

Shapes: C classes, H x W pixels.

Source: the first four and the constant 0.9 are from ianvs, the public ancestor of LAECIPS; the last two are Sedna's
CrossEntropyFilter and IBTFilter. Differs from Sedna: its filters score the boxes of a detector; here connected regions
of the edge's labels replace the boxes (ours). 0 ln 0 is 0, where Sedna's filter crashes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeai.collab.config.policy import ScoreKind
from edgeai.collab.models.regions import connected_regions

SCORES: tuple[ScoreKind, ...] = ("max_prob", "margin", "entropy", "frac_above", "sedna_cross_entropy", "ibt")
PIXEL_PROB_MIN = 0.9
"""Probability above which frac_above counts a pixel."""
REGION_PROB_MIN = 0.5
"""Mean probability above which ibt counts a region."""


@torch.no_grad()
def confidence(probs: Tensor) -> dict[ScoreKind, float]:
    """Return all classic scores of a frame, in the order of `SCORES`.

    Args:
        probs: Class probabilities, C >= 2 [C,H,W].
    """
    num_classes = probs.shape[0]
    best, labels = probs.max(0)  # [H,W]
    second = probs.scatter(0, labels[None], -1.0).amax(0)
    regions = torch.from_numpy(connected_regions(labels.byte().cpu().numpy())).to(probs.device).flatten()
    size = torch.bincount(regions).to(probs.dtype)  # [regions]
    region_probs = torch.zeros(num_classes, len(size), dtype=probs.dtype, device=probs.device)
    region_probs.index_add_(1, regions, probs.flatten(1)).div_(size)
    region_best = torch.zeros_like(size).index_add_(0, regions, best.flatten()).div_(size)
    scores = (
        best.mean(),
        (best - second).mean(),
        _certainty(probs).mean(),
        (best > PIXEL_PROB_MIN).float().mean(),
        _certainty(region_probs).mean(),
        (region_best > REGION_PROB_MIN).float().mean(),
    )
    # rounding may leave [0,1] slightly
    return {name: min(max(float(score), 0.0), 1.0) for name, score in zip(SCORES, scores, strict=True)}


def _certainty(probs: Tensor) -> Tensor:
    """Return 1 + sum p ln p / ln C over the first axis [C,...]: 1 for a certain class, 0 for a uniform distribution."""
    return 1.0 + torch.special.xlogy(probs, probs).sum(0) / math.log(probs.shape[0])
