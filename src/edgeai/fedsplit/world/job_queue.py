"""A first-come-first-served queue in virtual time: one processor, or one direction of a link."""

from __future__ import annotations

from typing import Any


class JobQueue:
    """Runs jobs one after the other and records when it is busy.

    Args:
        flops_per_s: Speed of a processor; 0 for a link.

    Attributes:
        free_s: End of the last job.
        busy: Disjoint busy intervals of the current round, ascending.
    """

    __slots__ = ("busy", "flops_per_s", "free_s")

    def __init__(self, flops_per_s: float = 0.0) -> None:
        self.flops_per_s = flops_per_s
        self.free_s = 0.0
        self.busy: list[tuple[float, float]] = []

    def add(self, begin_s: float, end_s: float) -> None:
        """Record a job. Adjacent intervals are joined."""
        if self.busy and self.busy[-1][1] == begin_s:
            begin_s = self.busy.pop()[0]
        self.busy.append((begin_s, end_s))
        self.free_s = end_s

    def settle(self, until_s: float) -> float:
        """Return the busy time up to `until_s`, and keep only what lies beyond."""
        total_s = 0.0
        for begin_s, end_s in self.busy:
            total_s += max(0.0, min(end_s, until_s) - begin_s)
        self.busy = [(max(begin_s, until_s), end_s) for begin_s, end_s in self.busy if end_s > until_s]
        return total_s

    def state(self) -> list[Any]:
        """Return the end of the last job and the flattened busy intervals."""
        return [self.free_s, [time_s for interval in self.busy for time_s in interval]]

    @classmethod
    def restored(cls, flops_per_s: float, free_s: float, busy: list[float]) -> JobQueue:
        """Rebuild a queue from its speed and the values that `state` returned."""
        queue = cls(flops_per_s)
        queue.free_s, queue.busy = free_s, list(zip(busy[::2], busy[1::2], strict=True))
        return queue
