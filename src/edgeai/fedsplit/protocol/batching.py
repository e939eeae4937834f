"""Seeds and sample orders: the batches of one client in one round."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def derived_seed(*words: int) -> int:
    """Return a seed for one purpose, the same on every machine and independent of earlier draws."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def num_batches(num_samples: int, batch: int, epochs: int) -> int:
    """Return the number of training steps in one round."""
    return epochs * -(-num_samples // batch)


def permuted(num_samples: int, batch: int, seed: int) -> tuple[Tensor, ...]:
    """Return a seeded permutation of the sample indices, split into batches; the last one may be short."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_samples, generator=generator).split(batch)
