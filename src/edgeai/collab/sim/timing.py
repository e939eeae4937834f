"""Compute times of a run, configured or measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

_NUM_MEASURED = 5


@dataclass(frozen=True)
class ComputeTimes:
    """Durations in virtual seconds."""

    edge_s: float
    """One pass of the edge model and the miner."""
    encode_s: float
    """Compression of a frame."""
    cloud_s: float
    """One answer of the cloud."""


def measured_s(work: Callable[[], object]) -> float:
    """Return the median duration of 5 calls, after one warm-up call."""
    taken = []
    for _ in range(_NUM_MEASURED + 1):
        begin_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin_s)
    return statistics.median(taken[1:])
