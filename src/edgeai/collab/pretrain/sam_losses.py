"""Training of Segment Anything: prompts sampled from regions, losses of the best of three masks, and an IoU head.

Shapes: N prompts, M = 3 masks for each, H x W frame pixels, h x w pixels of the decoder's masks within the frame.
Source: Segment Anything (arXiv 2304.02643), section 3 and appendix A. Differs: the ground truth is the connected
regions of a label map; one round of prompts (the paper continues with points where the mask is wrong); the IoU head is
trained on all three masks, since it chooses among them. The package's fourth mask, for several prompts at once, is not
trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.models.regions import connected_regions

MAX_BOX_NOISE_PX = 20.0  # from the paper
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # of the focal loss (arXiv 1708.02002), with the values of DETR


@dataclass(frozen=True)
class RegionPrompts:
    """Prompts with their ground-truth masks: points first, then boxes."""

    points: np.ndarray
    """(x, y) in frame pixels [N_p,2]."""
    boxes: np.ndarray
    """(x0, y0, x1, y1) in frame pixels [N_b,4]."""
    masks: np.ndarray
    """[N_p+N_b,H,W] bool."""


@dataclass(frozen=True)
class MaskLosses:
    """Losses and metrics of a batch of prompts."""

    focal: Tensor
    """Focal loss of the best mask, mean over prompts []."""
    dice: Tensor
    iou_error: Tensor
    """Mean squared error of the IoU head []."""
    iou_picked: Tensor
    """True IoU of the mask with the highest predicted IoU [N]."""
    iou_best: Tensor
    """True IoU of the best of the three masks [N]."""


def sample_prompts(
    labels: np.ndarray, num: int, *, min_region_px: int, box_noise_frac: float, rng: np.random.Generator
) -> RegionPrompts | None:
    """Sample regions of a label map [H,W], with a point in each of the first half and a noisy box around the others.

    Args:
        labels: Label map; IGNORE pixels belong to no region.
        num: Number of prompts; regions repeat if there are fewer.
        min_region_px: Minimum area of a region.
        box_noise_frac: Standard deviation of the noise on each box edge, as a share of the box's side.
        rng: Samples regions, points and box noise.

    Returns:
        The prompts, or None if no region is large enough.
    """
    regions = connected_regions(labels)
    area = np.bincount(regions.ravel())
    counts = np.bincount(regions.ravel(), weights=(labels == IGNORE).ravel())
    wanted = np.flatnonzero((area >= min_region_px) & (counts == 0))
    if not wanted.size:
        return None
    rounds = [rng.permutation(wanted) for _ in range(-(-num // wanted.size))]
    chosen = np.concatenate(rounds)[:num]
    masks = regions[None] == chosen[:, None, None]
    num_points = (num + 1) // 2
    points = np.array([_random_point(mask, rng) for mask in masks[:num_points]], dtype=float).reshape(-1, 2)
    boxes = np.array([_noisy_box(mask, box_noise_frac, rng) for mask in masks[num_points:]], dtype=float)
    return RegionPrompts(points, boxes.reshape(-1, 4), masks)


def mask_losses(logits: Tensor, iou_preds: Tensor, truth: Tensor, *, focal_weight: float) -> MaskLosses:
    """Return losses and IoUs of the decoder's masks; only the best of three masks per prompt enters the mask losses.

    Args:
        logits: Mask logits [N,M,h,w].
        iou_preds: Predicted IoUs [N,M].
        truth: Ground truth, 1 inside the mask, else 0 [N,h,w].
        focal_weight: Weight of the focal loss relative to the dice loss in the choice of the best mask.
    """
    wanted = truth[:, None].expand_as(logits)
    focal, dice = focal_loss(logits, wanted), dice_loss(logits, wanted)  # [N,M]
    best = (focal_weight * focal + dice).argmin(1, keepdim=True)
    iou = mask_iou(logits, wanted)
    return MaskLosses(
        focal=focal.gather(1, best).mean(),
        dice=dice.gather(1, best).mean(),
        iou_error=F.mse_loss(iou_preds, iou),
        iou_picked=iou.gather(1, iou_preds.argmax(1, keepdim=True))[:, 0],
        iou_best=iou.amax(1),
    )


def focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean over pixels of alpha_t (1 - p_t)^gamma CE (arXiv 1708.02002, equation 5) [N,M]."""
    ce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missing = (-ce).exp().neg() + 1  # 1 - p_t
    alpha = FOCAL_ALPHA * truth + (1 - FOCAL_ALPHA) * (1 - truth)
    return (alpha * missing**FOCAL_GAMMA * ce).mean((2, 3))


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - (2 |p t| + 1) / (|p| + |t| + 1), after V-Net (arXiv 1606.04797) [N,M]."""
    probs = logits.sigmoid()
    return 1 - (2 * (probs * truth).sum((2, 3)) + 1) / (probs.sum((2, 3)) + truth.sum((2, 3)) + 1)


@torch.no_grad()
def mask_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU of the masks, binarized at 0, with the ground truth [N,M]; 0 where both are empty."""
    mask, wanted = logits > 0, truth > 0.5
    union = (mask | wanted).sum((2, 3))
    return (mask & wanted).sum((2, 3)) / union.clamp_min(1)


def shrink_masks(masks: np.ndarray, size_px: tuple[int, int], device: Any) -> Tensor:
    """Downsample masks [N,H,W] bool to the decoder's resolution [N,h,w]: 1 where at least half is inside."""
    share = F.adaptive_avg_pool2d(torch.from_numpy(masks).to(device).float()[None], size_px)[0]
    return (share >= 0.5).float()


def _random_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Return (x, y) of a random pixel of a mask [H,W]."""
    y, x = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return x, y


def _noisy_box(mask: np.ndarray, noise_frac: float, rng: np.random.Generator) -> np.ndarray:
    """Return the box around a mask [H,W] with noise on each edge, inside the frame and at least one pixel wide."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=float)
    sides = np.tile(box[2:] - box[:2] + 1, 2)
    limit = np.minimum(MAX_BOX_NOISE_PX, sides / 2)  # half a side: opposite edges cannot cross
    moved = box + np.clip(rng.normal(0.0, noise_frac * sides), -limit, limit)
    height, width = mask.shape
    moved = np.clip(moved, 0, [width - 1, height - 1, width - 1, height - 1])
    return np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])])
