"""Prompts for uncertain regions of the semantics.

Shapes: C classes, N prompts, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from edgeai.collab.models.regions import connected_regions


@dataclass(frozen=True)
class Prompts:
    """One point and one box for each uncertain region."""

    points: np.ndarray
    """(x, y) of a pixel inside each region [N,2]."""
    boxes: np.ndarray
    """(x0, y0, x1, y1) around each region, last pixels included [N,4]."""


def uncertain_regions(logits: Tensor, *, max_regions: int, uncertain_below: float, min_region_px: int) -> Prompts:
    """Return prompts for the connected regions in which the semantics are uncertain (ours).

    Args:
        logits: Class logits [C,H,W].
        max_regions: Maximum number of regions; those with the largest area times mean uncertainty come first.
        uncertain_below: Mean class probability below which a region is uncertain.
        min_region_px: Minimum area of a region.
    """
    probs, labels = (part.cpu().numpy() for part in logits.detach().softmax(0).max(0))
    regions = connected_regions(labels.astype(np.uint8))
    area = np.bincount(regions.ravel())
    doubt_px = np.bincount(regions.ravel(), weights=1.0 - probs.ravel().astype(float))
    wanted = (area >= min_region_px) & (doubt_px > (1.0 - uncertain_below) * area)
    chosen = np.argsort(-np.where(wanted, doubt_px, 0.0), kind="stable")[: min(max_regions, int(wanted.sum()))]
    points, boxes = [], []
    for region in chosen:
        inside = regions == region
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        x0, y0, x1, y1 = columns[0], rows[0], columns[-1], rows[-1]
        y, x = innermost(inside[y0 : y1 + 1, x0 : x1 + 1])
        points.append((x0 + x, y0 + y))
        boxes.append((x0, y0, x1, y1))
    return Prompts(np.array(points, dtype=float).reshape(-1, 2), np.array(boxes, dtype=float).reshape(-1, 4))


def innermost(inside: np.ndarray) -> tuple[int, int]:
    """Return the pixel (y, x) of a region [H,W] farthest from its border, in steps between adjacent pixels.

    Of several such pixels, the one nearest to their mean is returned.
    """
    depth = distance_transform_cdt(np.pad(inside, 1), metric="taxicab")[1:-1, 1:-1]
    ys, xs = np.nonzero(depth == depth.max())
    nearest = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
    return int(ys[nearest]), int(xs[nearest])
