"""Pre-allocated KV cache, and committing accepted tree paths to it.

Shapes: B sequences, A accepted rows, nkv key heads, hd head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class KVCache:
    """Pre-allocated keys and values of `batch` sequences, of which the first `lengths` rows are committed."""

    k: list[Tensor]  # per layer [B, nkv, capacity, hd]
    v: list[Tensor]
    lengths: list[int] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Rows per sequence."""
        return self.k[0].shape[2]

    def keep(self, row: int, path: Tensor) -> None:
        """Commit accepted rows: compact the cache so that they follow the committed prefix.

        Args:
            row: Sequence in the batch.
            path: Offsets of the accepted rows from the committed end, ascending [A].
        """
        start = self.lengths[row]
        count = int(path.shape[0])
        if count and int(path[-1]) != count - 1:  # a chain is already in place
            source = path + start
            for cache in (*self.k, *self.v):
                cache[row, :, start : start + count] = cache[row].index_select(1, source)
        self.lengths[row] = start + count

    def copy(self, source: int, row: int, count: int) -> None:
        """Replace a sequence by the first `count` tokens of another one."""
        for part in (*self.k, *self.v):
            part[row, :, :count] = part[source, :, :count]
        self.lengths[row] = count

    def shrink(self, rows: list[int]) -> None:
        """Keep only these sequences of the batch."""
        self.k = [k[rows] for k in self.k]
        self.v = [v[rows] for v in self.v]
        self.lengths = [self.lengths[row] for row in rows]


@torch.inference_mode()
def commit_paths(cache: KVCache, paths: Sequence[tuple[int, Sequence[int]]]) -> None:
    """Commit the accepted rows of many sequences in a few copies; see `KVCache.keep`.

    Args:
        cache: Cache with uncommitted rows written by `run_segments`.
        paths: Pairs of a sequence and the offsets of its accepted rows, ascending.
    """
    moves = [
        (row, cache.lengths[row] + source, cache.lengths[row] + place)
        for row, path in paths
        for place, source in enumerate(path)
        if source != place
    ]
    if moves:
        rows, sources, places = torch.tensor(moves, device=cache.k[0].device).T
        for part in (*cache.k, *cache.v):
            part[rows, :, places] = part[rows, :, sources]
    for row, path in paths:
        cache.lengths[row] += len(path)
