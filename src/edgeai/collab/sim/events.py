"""The event loop in virtual time; actions run in the same order on every machine."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from enum import IntEnum

Action = Callable[[float], None]
"""Called with the current time."""


class Order(IntEnum):
    """Order of simultaneous actions: results before the deadlines that they must meet, new frames last."""

    RESULT = 0
    SWAP = 1
    DEADLINE = 2
    FRAME = 3


class EventLoop:
    """Runs actions by time, then by order, then in the order in which they were scheduled.

    Args:
        wall: Run no faster than real time.
    """

    def __init__(self, *, wall: bool = False) -> None:
        self._planned: list[tuple[float, Order, int, Action]] = []
        self._num_planned = 0
        self._wall = wall
        self.now_s = 0.0

    def at(self, time_s: float, action: Action, order: Order = Order.RESULT) -> None:
        """Schedule an action; one in the past runs next."""
        heapq.heappush(self._planned, (max(time_s, self.now_s), order, self._num_planned, action))
        self._num_planned += 1

    def run(self) -> None:
        """Run all actions, including those scheduled meanwhile."""
        begin_s = time.monotonic() - self.now_s
        while self._planned:
            self.now_s, _, _, action = heapq.heappop(self._planned)
            if self._wall:
                time.sleep(max(0.0, begin_s + self.now_s - time.monotonic()))
            action(self.now_s)
