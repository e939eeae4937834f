"""Distance correlation between two sets of samples, differentiable (Székely, Rizzo and Bakirov 2007).

Shapes: n samples of p and q values. x [n, ...] and z [n, ...] are flattened to [n, p] and [n, q].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distances = Literal["euclidean", "squared"]


def distance_correlation(x: Tensor, z: Tensor, *, distances: Distances = "euclidean") -> Tensor:
    """Return the sample distance correlation (the V-statistic), 0..1.

    a_ij = |x_i - x_j|, A = a without its row, column and grand means, B the same for z;
    dCov² = mean(A B), dCor = sqrt(dCov² / sqrt(mean(A²) mean(B²))).

    It is biased upwards for few samples of many values: unrelated samples do not give 0. Compare it with the value for
    shuffled pairs, and only at equal n.

    Args:
        x: Samples [n, ...], n >= 2.
        z: Samples [n, ...].
        distances: "squared" uses |x_i - x_j|² instead of |x_i - x_j|. That is not the distance correlation but the
            square root of the RV coefficient, which detects only linear relations. Common NoPeek code computes it.

    Returns:
        A scalar; 0 if x or z is constant. Its gradient is finite everywhere.
    """
    a, b = _centered(x, distances), _centered(z, distances)
    covariance = (a * b).mean()
    scale = (a.square().mean() * b.square().mean()).clamp_min(torch.finfo(a.dtype).tiny).sqrt()
    ratio = covariance / scale
    # the gradient of sqrt is infinite at 0, the value for a constant z
    safe = torch.where(ratio > 0.0, ratio, torch.ones_like(ratio))
    return torch.where(ratio > 0.0, safe.sqrt(), torch.zeros_like(ratio))


def mean_distance_correlation(x: Tensor, z: Tensor, *, batch: int, distances: Distances = "euclidean") -> float:
    """Return the mean distance correlation over batches of equal size, without gradients.

    Args:
        x: Samples [n, ...].
        z: Samples [n, ...].
        batch: Samples per distance matrix; an incomplete last batch is dropped unless it is the only one.
        distances: Kind of distances; see `distance_correlation`.
    """
    batch = min(batch, len(x))
    starts = range(0, len(x) - batch + 1, batch)
    with torch.no_grad():
        values = [
            distance_correlation(x[start : start + batch], z[start : start + batch], distances=distances)
            for start in starts
        ]
    return float(torch.stack(values).mean())


def _centered(samples: Tensor, distances: Distances) -> Tensor:
    """Return the doubly centered distance matrix [n, n]."""
    flat = samples.flatten(1)
    flat = flat - flat.mean(0).detach()  # leaves distances unchanged; the subtraction below loses fewer digits
    squares = flat.square().sum(1)
    squared = (squares[:, None] + squares[None, :] - 2.0 * flat @ flat.T).clamp_min(0.0)
    if distances == "euclidean":
        apart = squared > 1e-6 * squares.mean().detach()  # smaller values are rounding errors or the diagonal
        squared = torch.where(apart, torch.where(apart, squared, torch.ones_like(squared)).sqrt(), squared * 0.0)
    means = squared.mean(0)
    return squared - means[:, None] - means[None, :] + means.mean()
