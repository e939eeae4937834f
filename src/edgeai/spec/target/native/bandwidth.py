"""How fast this machine reads memory: the bound of a decoding step, which reads every weight once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_REPEATS = 7


def read_bandwidth_bps(size_bytes: int, threads: int) -> float:
    """Measure the bytes per second at which `threads` threads together read `size_bytes` of memory, best of several.

    Data that fit the caches are read from there, as weights of that size would be.
    """
    parts = np.array_split(np.ones(max(size_bytes // 8, threads), dtype=np.uint64), threads)
    best_s = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_REPEATS):
            begin_s = time.perf_counter()
            list(pool.map(np.add.reduce, parts))
            best_s = min(best_s, time.perf_counter() - begin_s)
    return sum(part.nbytes for part in parts) / best_s
