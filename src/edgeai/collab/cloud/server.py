"""The cloud's side: one server that answers in order of arrival, and learns from what came too late when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Request


class CloudServer:
    """Serves one request at a time. Training runs beside it, on other processors.

    Args:
        loop: Virtual time.
        service_s: Time that a request takes.
        answered: Hears of a request whose answer is due now.
        expired: Hears of one that wanted an answer and whose deadline passed before it was begun.
        keeps: Expired requests are worked on for training, after all others.
        max_later: Requests that may wait to be worked on for training; the oldest is dropped.
        dropped: Hears of that one.
    """

    def __init__(
        self,
        loop: EventLoop,
        service_s: Callable[[Request], float],
        *,
        answered: Callable[[Request, float], None],
        expired: Callable[[Request, float], None],
        keeps: bool,
        max_later: int,
        dropped: Callable[[Request], None],
    ) -> None:
        self._loop, self._service_s, self._keeps, self._max_later = loop, service_s, keeps, max_later
        self._answered, self._expired, self._dropped = answered, expired, dropped
        self._first: deque[Request] = deque()
        self._later: deque[Request] = deque()
        self._is_busy = False

    def receive(self, request: Request, now_s: float) -> None:
        """Takes in a request that has arrived."""
        if request.for_answer:
            self._first.append(request)
        else:
            self._put_off(request)
        self._next(now_s)

    def _put_off(self, request: Request) -> None:
        self._later.append(request)
        if len(self._later) > self._max_later:
            self._dropped(self._later.popleft())

    def _next(self, now_s: float) -> None:
        while not self._is_busy and (self._first or self._later):
            request = (self._first or self._later).popleft()
            if request.for_answer and now_s >= request.play.deadline_s:
                request.for_answer = False
                self._expired(request, now_s)
                if self._keeps:
                    self._put_off(request)
                continue
            self._serve(request, now_s)

    def _serve(self, request: Request, now_s: float) -> None:
        self._is_busy = True
        self._loop.at(now_s + self._service_s(request), lambda end_s: self._finish(request, end_s))

    def _finish(self, request: Request, now_s: float) -> None:
        self._is_busy = False
        self._answered(request, now_s)
        self._next(now_s)
