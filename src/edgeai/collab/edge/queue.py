"""The edge's own line of frames: one at a time, newest first, and a short waiting room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edgeai.collab.sim.events import EventLoop

T = TypeVar("T")


class EdgeQueue(Generic[T]):
    """Serves one item at a time. While it is busy, the newest waiting one is next; the oldest is dropped when too many
    wait.

    Args:
        loop: Virtual time.
        depth: Items that may wait.
        begin: Starts on an item and says how long it takes, in seconds.
        done: Hears of an item that is finished.
        dropped: Hears of an item that will not be served.
    """

    def __init__(
        self,
        loop: EventLoop,
        depth: int,
        *,
        begin: Callable[[T], float],
        done: Callable[[T, float], None],
        dropped: Callable[[T], None],
    ) -> None:
        self._loop, self._depth = loop, depth
        self._begin, self._done, self._dropped = begin, done, dropped
        self._waiting: deque[T] = deque()
        self._is_busy = False

    def offer(self, item: T, now_s: float) -> None:
        """Takes in an item."""
        if not self._is_busy:
            self._start(item, now_s)
            return
        self._waiting.append(item)
        if len(self._waiting) > self._depth:
            self._dropped(self._waiting.popleft())

    def _start(self, item: T, now_s: float) -> None:
        self._is_busy = True
        self._loop.at(now_s + self._begin(item), lambda end_s: self._finish(item, end_s))

    def _finish(self, item: T, now_s: float) -> None:
        self._is_busy = False
        if self._waiting:
            self._start(self._waiting.pop(), now_s)
        self._done(item, now_s)
