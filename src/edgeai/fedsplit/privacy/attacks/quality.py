"""How close reconstructions are to the originals.

Legend: x [n, ...] originals, found [n, ...] reconstructions, in the units of the model's inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgeai.fedsplit.privacy.dcor import mean_distance_correlation

_SSIM_WINDOW = 7


@dataclass(frozen=True)
class Reconstruction:
    """The success of an attack that reconstructs inputs.

    Attributes:
        mse: Mean squared error per value.
        mse_of_mean: The same for an attacker who always answers the mean of the originals: the error of knowing
            nothing about a sample.
        psnr_db: Peak signal-to-noise ratio; the peak is the range of the originals. Infinite for a perfect one.
        ssim: Mean structural similarity of pictures, or None for anything else.
        dcor: Distance correlation between originals and reconstructions.
        correlation: Mean over the samples of Pearson's correlation of their values, -1..1: blind to scale and offset,
            which a normalising client part hides from the attacker but which a viewer does not miss.
    """

    mse: float
    mse_of_mean: float
    psnr_db: float
    ssim: float | None
    dcor: float
    correlation: float


def compare(x: Tensor, found: Tensor, *, dcor_batch: int) -> Reconstruction:
    """Compares reconstructions with originals.

    Args:
        x: [n, ...], n >= 2; pictures are [n, c, h, w].
        found: Of the same shape.
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
    """Pearson's correlation of each row, [n]; 0 where a row has one value only."""
    return F.cosine_similarity(x - x.mean(1, keepdim=True), found - found.mean(1, keepdim=True))


def _ssim(x: np.ndarray, found: np.ndarray, peak: float) -> float | None:
    """Mean SSIM (Wang et al. 2004) with a uniform window, smaller for tiny pictures; None below 3 by 3."""
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
