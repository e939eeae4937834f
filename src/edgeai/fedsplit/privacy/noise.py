"""Noise on smashed data, from random streams that depend only on (seed, client, stream, counter).

Notation: q values per record, |value| <= B. The smashed data of two records differ by at most 2 q B in L1 and
2 B sqrt(q) in L2: the sensitivity, for any data. A sensitivity measured on a batch guarantees nothing.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

NoiseKind = Literal["laplace", "gaussian"]


def generator_for(*key: int) -> torch.Generator:
    """Return a CPU generator that depends only on `key`; different keys give independent streams.

    Args:
        key: Non-negative integers, such as seed, client, stream and counter.
    """
    words = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def draw_noise(shape: torch.Size, kind: NoiseKind, scale: float, generator: torch.Generator) -> Tensor:
    """Return independent noise, float32 on the CPU.

    Args:
        shape: Shape of the result.
        kind: Distribution: laplace for Laplace(0, scale), gaussian for N(0, scale²).
        scale: Scale of the distribution.
        generator: Samples the noise.
    """
    if kind == "gaussian":
        return torch.randn(shape, generator=generator) * scale
    half = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5  # [-0.5, 0.5)
    magnitude = -torch.log1p(-2.0 * half.abs().clamp_max(0.5 - 2.0**-54))
    return (magnitude * half.sign()).to(torch.float32) * scale


def laplace_epsilon(num_values: int, bound: float, scale: float) -> float:
    """Return the pure epsilon of one release of one record: 2 q B / scale.

    Args:
        num_values: Values per record: q.
        bound: Largest absolute value: B.
        scale: Scale of the Laplace noise on each value.
    """
    return 2.0 * num_values * bound / scale


def laplace_scale(num_values: int, bound: float, epsilon: float) -> float:
    """Return the scale for which `laplace_epsilon` returns `epsilon`."""
    return 2.0 * num_values * bound / epsilon


def gaussian_epsilon(sensitivity_over_std: float, delta: float) -> float:
    """Return the smallest epsilon of the Gaussian mechanism (exact: Balle and Wang 2018, Theorem 8).

    delta(epsilon) = Phi(m/2 - epsilon/m) - e^epsilon Phi(-m/2 - epsilon/m), with m = sensitivity / std, solved by
    bisection. k releases of the same record count as one with m sqrt(k).

    Args:
        sensitivity_over_std: Sensitivity divided by the standard deviation: m.
        delta: Probability that the bound fails, 0 < delta < 1.
    """
    if sensitivity_over_std == 0.0:
        return 0.0
    low, high = 0.0, 1.0
    while _gaussian_delta(sensitivity_over_std, high) > delta:
        low, high = high, 2.0 * high
    if _gaussian_delta(sensitivity_over_std, 0.0) <= delta:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _gaussian_delta(sensitivity_over_std, middle) > delta else (low, middle)
    return high


def _gaussian_delta(m: float, epsilon: float) -> float:
    """Return the delta of the Gaussian mechanism, computed through logarithms because e^epsilon overflows."""
    tails = torch.tensor([m / 2.0 - epsilon / m, -m / 2.0 - epsilon / m], dtype=torch.float64)
    first, second = torch.special.log_ndtr(tails).tolist()
    return math.exp(first) - math.exp(min(epsilon + second, 0.0))
