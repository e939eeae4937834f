"""Distance correlation between two sets of samples, differentiable (Székely, Rizzo and Bakirov 2007).

Legend: n samples, p and q values each. x [n, ...], z [n, ...]; both are flattened to [n, p] and [n, q].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Distances = Literal["euclidean", "squared"]


def distance_correlation(x: Tensor, z: Tensor, *, distances: Distances = "euclidean") -> Tensor:
    """Computes the sample distance correlation (the V-statistic), 0..1.

    a_ij = |x_i - x_j|, A = a with row, column and grand means removed, B likewise from z;
    dCov² = mean(A B), dCor = sqrt(dCov² / sqrt(mean(A²) mean(B²))).

    It is biased upwards for few samples of many values: unrelated samples do not give 0. Compare with the value for
    shuffled pairs, and only between equal n.

    Args:
        x: [n, ...], n >= 2.
        z: [n, ...].
        distances: "squared" puts |x_i - x_j|² in place of |x_i - x_j|. That is not the distance correlation: it sees
            only linear relations (it equals sqrt of the RV coefficient). Widespread code for NoPeek computes it.

    Returns:
        A scalar; 0 where x or z is the same for all samples. Its gradient is finite everywhere.
    """
    a, b = _centred(x, distances), _centred(z, distances)
    covariance = (a * b).mean()
    scale = (a.square().mean() * b.square().mean()).clamp_min(torch.finfo(a.dtype).tiny).sqrt()
    ratio = covariance / scale
    # sqrt has an infinite gradient at 0, which a constant z would reach
    safe = torch.where(ratio > 0.0, ratio, torch.ones_like(ratio))
    return torch.where(ratio > 0.0, safe.sqrt(), torch.zeros_like(ratio))


def mean_distance_correlation(x: Tensor, z: Tensor, *, batch: int, distances: Distances = "euclidean") -> float:
    """Averages the distance correlation over batches of equal size, without gradients.

    Args:
        x: [n, ...].
        z: [n, ...].
        batch: Samples per distance matrix; a rest that fills no batch is left out unless it is all there is.
        distances: As in `distance_correlation`.
    """
    batch = min(batch, len(x))
    starts = range(0, len(x) - batch + 1, batch)
    with torch.no_grad():
        values = [
            distance_correlation(x[start : start + batch], z[start : start + batch], distances=distances)
            for start in starts
        ]
    return float(torch.stack(values).mean())


def _centred(samples: Tensor, distances: Distances) -> Tensor:
    """Doubly centred distance matrix, [n, n]."""
    flat = samples.flatten(1)
    flat = flat - flat.mean(0).detach()  # distances stay; the subtraction below loses fewer digits
    squares = flat.square().sum(1)
    squared = (squares[:, None] + squares[None, :] - 2.0 * flat @ flat.T).clamp_min(0.0)
    if distances == "euclidean":
        apart = squared > 1e-6 * squares.mean().detach()  # below it is rounding, and the diagonal
        squared = torch.where(apart, torch.where(apart, squared, torch.ones_like(squared)).sqrt(), squared * 0.0)
    means = squared.mean(0)
    return squared - means[:, None] - means[None, :] + means.mean()
