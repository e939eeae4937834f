"""Randomized response on labels (Warner 1965; for training: Ghazi et al. 2021, "Deep Learning with Label DP").

Each sample's label is drawn once from (seed, client, sample index), so sending it again reveals nothing more.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def keep_probability(epsilon: float, num_classes: int) -> float:
    """Return the probability of an unchanged label: e^epsilon / (e^epsilon + m - 1)."""
    return 1.0 / (1.0 + (num_classes - 1) * math.exp(-epsilon))


def randomize_labels(
    labels: Tensor, indices: Tensor, *, epsilon: float, num_classes: int, seed: int, client: int
) -> Tensor:
    """Return labels kept with `keep_probability`, else replaced by a uniformly drawn other label.

    Args:
        labels: Labels [b] int64, 0..num_classes-1.
        indices: Indices [b] int64 of the client's samples; equal indices always give equal labels.
        epsilon: Epsilon of label differential privacy, per sample and for the whole run.
        num_classes: Number of classes: m, at least 2.
        seed: Seed of the run.
        client: Number of the client that holds the labels.

    Returns:
        [b] int64, on the device of `labels`.
    """
    index = indices.detach().cpu().numpy().astype(np.uint64)
    key = np.random.SeedSequence([seed, client, 3]).generate_state(2, np.uint64)
    is_changed = _uniform(index, key[0]) >= keep_probability(epsilon, num_classes)
    shift = 1 + np.floor(_uniform(index, key[1]) * (num_classes - 1)).astype(np.int64)
    moved = torch.from_numpy(np.where(is_changed, shift, 0)).to(labels.device)
    return (labels + moved) % num_classes


def debiased_shares(labels: Tensor, *, epsilon: float, num_classes: int) -> Tensor:
    """Return unbiased estimates of the true class shares from randomized labels.

    E[observed] = (keep - other) true + other, solved for true. Single estimates can be negative.

    Args:
        labels: Randomized labels [n] int64.
        epsilon: Epsilon that the labels were randomized with.
        num_classes: Number of classes: m.

    Returns:
        [m] float64, summing to 1.
    """
    keep = keep_probability(epsilon, num_classes)
    other = (1.0 - keep) / (num_classes - 1)
    observed = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    return (observed - other) / (keep - other)


def _uniform(index: np.ndarray, key: np.uint64) -> np.ndarray:
    """Return a number in [0, 1) per index: the output function of SplitMix64 (Steele et al. 2014) on key + index."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is intended
        mixed = key + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
