"""Similarity of reconstructions and originals.

Shapes: x [n, ...] originals, found [n, ...] reconstructions, in the units of the model's inputs.
"""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgeai.fedsplit.privacy.dcor import mean_distance_correlation
from edgeai.fedsplit.reports.leakage_report import Reconstruction

_SSIM_WINDOW = 7


def compare(x: Tensor, found: Tensor, *, dcor_batch: int) -> Reconstruction:
    """Compare reconstructions with originals.

    Args:
        x: Originals [n, ...], n >= 2; images are [n, c, h, w].
        found: Reconstructions of the same shape.
        dcor_batch: Samples per distance matrix.
    """
    x, found = x.detach().float(), found.detach().float()
    mse = float((x - found).square().mean())
    peak = float(x.max() - x.min())
    psnr_db = math.inf if mse == 0.0 else 10.0 * math.log10(max(peak, 1e-12) ** 2 / mse)
    return Reconstruction(
        mse=mse,
        mse_of_mean=float((x - x.mean(0)).square().mean()),
        psnr_db=psnr_db,
        ssim=_ssim(x.cpu().numpy(), found.cpu().numpy(), peak) if x.dim() == 4 else None,
        dcor=mean_distance_correlation(x, found, batch=dcor_batch),
        correlation=float(_correlation(x.flatten(1), found.flatten(1)).mean()),
    )


def _correlation(x: Tensor, found: Tensor) -> Tensor:
    """Return Pearson's correlation of each row [n]; 0 for a constant row."""
    return F.cosine_similarity(x - x.mean(1, keepdim=True), found - found.mean(1, keepdim=True))


def _ssim(x: np.ndarray, found: np.ndarray, peak: float) -> float | None:
    """Return the mean SSIM (Wang et al. 2004) with a uniform window, smaller for tiny images; None below 3 by 3."""
    from skimage.metrics import structural_similarity  # slow to import

    side = min(x.shape[2:])
    window = min(_SSIM_WINDOW, side if side % 2 else side - 1)
    if window < 3 or peak == 0.0:
        return None
    values = [
        structural_similarity(one, other, win_size=window, data_range=peak, channel_axis=0)
        for one, other in zip(x, found, strict=True)
    ]
    return float(np.mean(values))
