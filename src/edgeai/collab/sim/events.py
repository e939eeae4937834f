"""Virtual time: what happens next is done next, at once, and in the same order on every machine."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from enum import IntEnum

Action = Callable[[float], None]
"""Hears the time."""


class Order(IntEnum):
    """What comes first at the same time: results before what they could be too late for, new frames last."""

    RESULT = 0
    SWAP = 1
    DEADLINE = 2
    FRAME = 3


class EventLoop:
    """Actions by time, then by order, then as they were planned.

    Args:
        wall: Play no faster than real time.
    """

    def __init__(self, *, wall: bool = False) -> None:
        self._planned: list[tuple[float, Order, int, Action]] = []
        self._num_planned = 0
        self._wall = wall
        self.now_s = 0.0

    def at(self, time_s: float, action: Action, order: Order = Order.RESULT) -> None:
        """Plans an action; one in the past is done next."""
        heapq.heappush(self._planned, (max(time_s, self.now_s), order, self._num_planned, action))
        self._num_planned += 1

    def run(self) -> None:
        """Does everything, what is planned meanwhile included."""
        begin_s = time.monotonic() - self.now_s
        while self._planned:
            self.now_s, _, _, action = heapq.heappop(self._planned)
            if self._wall:
                time.sleep(max(0.0, begin_s + self.now_s - time.monotonic()))
            action(self.now_s)
