"""Keys and values on the native runtime, of a target or of a draft head; csrc/runtime.h describes their order."""

from __future__ import annotations

import numpy as np

from edgeai.spec.target.native import structures

BLOCK = 16
"""Slots whose keys lie together."""


class PackedCache:
    """Keys and values of `batch` sequences, of which the first `lengths` tokens are committed.

    Args:
        num_kv_heads: Key heads of all layers.
        head_dim: Width of a head.
        capacity: Tokens per sequence.
        batch: Number of sequences.
    """

    def __init__(self, num_kv_heads: int, head_dim: int, capacity: int, batch: int = 1) -> None:
        self.lengths = [0] * batch
        self._head_dim = head_dim
        self._set(np.zeros((batch, 2 * num_kv_heads, _padded(capacity) * head_dim), np.float16))

    @staticmethod
    def bytes_per_sequence(num_kv_heads: int, head_dim: int, capacity: int) -> int:
        """Return the memory of one sequence."""
        return 2 * num_kv_heads * _padded(capacity) * head_dim * np.dtype(np.float16).itemsize

    def reserve(self, capacity: int) -> None:
        """Grow to at least this number of tokens per sequence."""
        if capacity <= self.capacity:
            return
        batch, parts, size = self._data.shape
        data = np.zeros((batch, parts, _padded(2 * capacity) * self._head_dim), np.float16)
        data[..., :size] = self._data
        self._set(data)

    def copy(self, source: int, row: int, count: int) -> None:
        """Replace a sequence by the first `count` tokens of another one."""
        end = _padded(count) * self._head_dim  # the rest of the last block is written before it is read
        self._data[row, :, :end] = self._data[source, :, :end]
        self.lengths[row] = count

    def shrink(self, rows: list[int]) -> None:
        """Keep only these sequences of the batch."""
        self.lengths = [self.lengths[row] for row in rows]
        self._set(self._data[rows])

    def _set(self, data: np.ndarray) -> None:
        self._data, self.capacity = data, data.shape[2] // self._head_dim
        self.structure = structures.Cache(data.ctypes.data, self.capacity, len(data))


def _padded(capacity: int) -> int:
    return -(-capacity // BLOCK) * BLOCK
