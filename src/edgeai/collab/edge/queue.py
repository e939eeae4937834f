"""The edge's frame queue: one frame at a time, newest first, with a bounded number of waiting frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edgeai.collab.sim.events import EventLoop

T = TypeVar("T")


class EdgeQueue(Generic[T]):
    """Serves one item at a time; the newest waiting item is next. When too many wait, the oldest is dropped.

    Args:
        loop: Event loop.
        depth: Maximum number of waiting items.
        begin: Starts processing an item and returns the duration in seconds.
        on_done: Called with each finished item.
        on_dropped: Called with each dropped item.
    """

    def __init__(
        self,
        loop: EventLoop,
        depth: int,
        *,
        begin: Callable[[T], float],
        on_done: Callable[[T, float], None],
        on_dropped: Callable[[T], None],
    ) -> None:
        self._loop, self._depth = loop, depth
        self._begin, self._on_done, self._on_dropped = begin, on_done, on_dropped
        self._waiting: deque[T] = deque()
        self._is_busy = False

    def offer(self, item: T, now_s: float) -> None:
        """Accept an item."""
        if not self._is_busy:
            self._start(item, now_s)
            return
        self._waiting.append(item)
        if len(self._waiting) > self._depth:
            self._on_dropped(self._waiting.popleft())

    def _start(self, item: T, now_s: float) -> None:
        self._is_busy = True
        self._loop.at(now_s + self._begin(item), lambda end_s: self._finish(item, end_s))

    def _finish(self, item: T, now_s: float) -> None:
        self._is_busy = False
        if self._waiting:
            self._start(self._waiting.pop(), now_s)
        self._on_done(item, now_s)
