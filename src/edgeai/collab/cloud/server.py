"""The cloud's server queue: requests in order of arrival, then expired requests for training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Request


class CloudServer:
    """Serves one request at a time. Training runs in parallel on other processors.

    Args:
        loop: Event loop.
        service_s: Returns the service time of a request.
        on_served: Called with each request at the end of its service.
        on_expired: Called with each request for an answer whose deadline passed before its service began.
        keeps_expired: Serve expired requests for training, after all others.
        max_later: Maximum number of requests waiting for training; above it the oldest is dropped.
        on_dropped: Called with each dropped request.
    """

    def __init__(
        self,
        loop: EventLoop,
        service_s: Callable[[Request], float],
        *,
        on_served: Callable[[Request, float], None],
        on_expired: Callable[[Request, float], None],
        keeps_expired: bool,
        max_later: int,
        on_dropped: Callable[[Request], None],
    ) -> None:
        self._loop, self._service_s, self._keeps_expired, self._max_later = loop, service_s, keeps_expired, max_later
        self._on_served, self._on_expired, self._on_dropped = on_served, on_expired, on_dropped
        self._first: deque[Request] = deque()
        self._later: deque[Request] = deque()
        self._is_busy = False

    def receive(self, request: Request, now_s: float) -> None:
        """Accept a request that arrived at the cloud."""
        if request.for_answer:
            self._first.append(request)
        else:
            self._postpone(request)
        self._next(now_s)

    def _postpone(self, request: Request) -> None:
        self._later.append(request)
        if len(self._later) > self._max_later:
            self._on_dropped(self._later.popleft())

    def _next(self, now_s: float) -> None:
        while not self._is_busy and (self._first or self._later):
            request = (self._first or self._later).popleft()
            if request.for_answer and now_s >= request.state.deadline_s:
                request.for_answer = False
                self._on_expired(request, now_s)
                if self._keeps_expired:
                    self._postpone(request)
                continue
            self._serve(request, now_s)

    def _serve(self, request: Request, now_s: float) -> None:
        self._is_busy = True
        self._loop.at(now_s + self._service_s(request), lambda end_s: self._finish(request, end_s))

    def _finish(self, request: Request, now_s: float) -> None:
        self._is_busy = False
        self._on_served(request, now_s)
        self._next(now_s)
