"""Latency statistics of a stream in constant memory, with quantiles of bounded error."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from edgeai.core.report.fields import about

GROWTH = 1.02
"""Ratio of a bin's bounds: a quantile is off by at most sqrt(1.02) - 1, just under 1 %."""
MIN_S = 1e-5
MAX_S = 1e4
NUM_BINS = math.ceil(math.log(MAX_S / MIN_S) / math.log(GROWTH))


@dataclass(frozen=True)
class LatencySummary:
    """Latencies in seconds; mean, min and max are exact, quantiles to 1 % (10 us for those below 10 us)."""

    num: int = field(metadata=about("number"))
    mean_s: float = field(metadata=about("mean"))
    min_s: float = field(metadata=about("minimum"))
    p50_s: float = field(metadata=about("median"))
    p95_s: float = field(metadata=about("95th percentile"))
    p99_s: float = field(metadata=about("99th percentile"))
    max_s: float = field(metadata=about("maximum"))


class LatencyHistogram:
    """A histogram of latencies with geometrically growing bins from 10 us to 10,000 s."""

    def __init__(self) -> None:
        self._counts = np.zeros(NUM_BINS, dtype=np.int64)
        self._total_s = 0.0
        self._min_s = math.inf
        self._max_s = -math.inf

    @property
    def num(self) -> int:
        """Number of latencies added so far."""
        return int(self._counts.sum())

    def add(self, latency_s: float) -> None:
        """Add one latency.

        Raises:
            ValueError: The latency is negative or not finite.
        """
        if not (math.isfinite(latency_s) and latency_s >= 0):
            raise ValueError(f"invalid latency: {latency_s} s")
        place = math.floor(math.log(max(latency_s, MIN_S) / MIN_S) / math.log(GROWTH))
        self._counts[min(place, NUM_BINS - 1)] += 1
        self._total_s += latency_s
        self._min_s = min(self._min_s, latency_s)
        self._max_s = max(self._max_s, latency_s)

    def quantile(self, level: float) -> float:
        """Return the quantile at `level` in seconds (nearest rank).

        Raises:
            ValueError: No latency was added.
        """
        if not self.num:
            raise ValueError("no latency was added")
        rank = max(1, math.ceil(level * self.num - 1e-9))  # 0.95 * 20 is 19.000000000000004
        place = int(np.searchsorted(self._counts.cumsum(), rank))
        middle_s = MIN_S * GROWTH ** (place + 0.5)
        return min(max(middle_s, self._min_s), self._max_s)

    def summary(self) -> LatencySummary | None:
        """Return all statistics; None if no latency was added."""
        if not self.num:
            return None
        p50, p95, p99 = (self.quantile(level) for level in (0.5, 0.95, 0.99))
        return LatencySummary(self.num, self._total_s / self.num, self._min_s, p50, p95, p99, self._max_s)
