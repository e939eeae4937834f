"""Rotary position embedding of a target: frequencies, their scaling, and tables that grow with the positions in use.

Shapes: hd head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray
_BLOCK = 1024  # positions computed at a time, so that an angle's cosine does not depend on the length of the table


@dataclass(frozen=True, eq=False)
class Rotary:
    """Frequencies of a model."""

    inv_freq: Array  # [hd / 2] float32, radians per position
    attention_factor: float = 1.0
    """Factor of cosines and sines."""

    def table(self, begin: int, end: int) -> tuple[Array, Array]:
        """Return cosines and sines of the positions in [begin, end), both multiples of 1024: [end - begin, hd / 2]."""
        parts = [self._block(start) for start in range(begin, end, _BLOCK)]
        cos, sin = (np.concatenate(part) for part in zip(*parts, strict=True))
        return cos, sin

    def _block(self, start: int) -> tuple[Array, Array]:
        angles = np.outer(np.arange(start, start + _BLOCK, dtype=np.float32), self.inv_freq).astype(np.float64)
        factor = self.attention_factor
        return (np.cos(angles) * factor).astype(np.float32), (np.sin(angles) * factor).astype(np.float32)


class RotaryTable:
    """Cosines and sines of the positions asked for so far."""

    def __init__(self, rotary: Rotary) -> None:
        self._rotary = rotary
        self._kept = [rotary.table(0, _BLOCK)]  # a pass in another thread may still read the tables before

    @property
    def current(self) -> tuple[Array, Array]:
        """Cosines and sines [positions, hd / 2], float32."""
        return self._kept[-1]

    def reserve(self, num_positions: int) -> bool:
        """Extend the tables to at least this many positions; returns whether they moved."""
        have = len(self.current[0])
        if num_positions <= have:
            return False
        end = -(-max(num_positions, 2 * have) // _BLOCK) * _BLOCK
        more = self._rotary.table(have, end)
        cos, sin = (np.concatenate(pair) for pair in zip(self.current, more, strict=True))
        self._kept.append((cos, sin))
        return True


def plain(theta: float, head_dim: int) -> Array:
    """Return the frequencies without scaling [hd / 2], the bits of the torch runtime."""
    return np.asarray((1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)).numpy())


def yarn(
    theta: float,
    head_dim: int,
    *,
    factor: float,
    original_positions: int,
    fast: float = 32.0,
    slow: float = 1.0,
    truncate: bool = True,
) -> Array:
    """Interpolate frequencies of at most `slow` rotations within the original context, keep those of at least `fast`.

    Source: YaRN, arXiv 2309.00071, section 3.2, as implemented in transformers and llama.cpp.
    """

    def pair_with(rotations: float) -> float:
        return head_dim * math.log(original_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_with(fast), pair_with(slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    pairs = np.arange(head_dim // 2, dtype=np.float32)
    share = np.clip((pairs - first) / max(last - first, 0.001), 0.0, 1.0)
    base = plain(theta, head_dim)
    return np.asarray(share * base / factor + (1 - share) * base, dtype=np.float32)


def yarn_attention_factor(factor: float) -> float:
    """Return the factor that YaRN recommends for cosines and sines."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
