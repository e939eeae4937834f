"""The edge's side of the uplink: few frames in flight, a short queue, a circuit breaker, and a spool for training.

request for an answer ─ breaker closed? ─ free slot? ─ send
                          │                 └ wait (newest first; the oldest is dropped)
                          └ dropped, or spooled for training; the spool is sent while the link is idle
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgeai.collab.config.playback import UploadConfig
from edgeai.collab.edge.circuit_breaker import CircuitBreaker
from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Drop, Request
from edgeai.core.link import Link


class Uplink:
    """Sends requests to the cloud.

    Args:
        loop: Event loop.
        link: Link to the cloud.
        config: Upload limits.
        keeps_late: Send requests that cannot be answered in time later, for training.
        on_sent: Called with each request that was passed to the link.
        on_delivered: Called with each request that arrived at the cloud.
        on_given_up: Called with each request that will not be sent.
    """

    def __init__(
        self,
        loop: EventLoop,
        link: Link,
        config: UploadConfig,
        *,
        keeps_late: bool,
        on_sent: Callable[[Request, float], None],
        on_delivered: Callable[[Request, float], None],
        on_given_up: Callable[[Request], None],
    ) -> None:
        self._loop, self._link, self._config, self._keeps_late = loop, link, config, keeps_late
        self._on_sent, self._on_delivered, self._on_given_up = on_sent, on_delivered, on_given_up
        self._waiting: deque[Request] = deque()
        self._spool: deque[Request] = deque()
        self._num_in_flight = 0
        self._is_spooling = False
        self._is_closing = False
        self.breaker = CircuitBreaker(config.breaker_failures, config.breaker_probe_s)

    def ask(self, request: Request, now_s: float) -> None:
        """Send a request for an answer, or let it wait."""
        if now_s >= request.state.deadline_s:  # the edge itself was slow
            self._fall_back(request, "expired", now_s)
        elif not self.breaker.allows(now_s):
            self._fall_back(request, "breaker", now_s)
        elif self._num_in_flight < self._config.max_in_flight:
            self._send(request, now_s)
        else:
            self._waiting.append(request)
            if len(self._waiting) > self._config.queue_frames:
                self._fall_back(self._waiting.popleft(), "queue", now_s)

    def store(self, request: Request, now_s: float) -> None:
        """Spool a request for a label only."""
        request.for_answer = False
        self._spool.append(request)
        if len(self._spool) > self._config.spool_frames:
            self._drop(self._spool.popleft(), "spool")
        self._empty_spool(now_s)

    def slot_freed(self, now_s: float) -> None:
        """Process the reply to a request for an answer: its slot is free."""
        self._num_in_flight -= 1
        while self._waiting and self._num_in_flight < self._config.max_in_flight:
            request = self._waiting.pop()
            if now_s >= request.state.deadline_s:
                self._fall_back(request, "expired", now_s)
            else:
                self._send(request, now_s)
        self._empty_spool(now_s)

    def close(self, now_s: float) -> None:
        """Send the rest of the spool after the end of the stream, even while the breaker is open."""
        self._is_closing = True
        self._empty_spool(now_s)

    def _send(self, request: Request, now_s: float) -> None:
        self._num_in_flight += request.for_answer
        transfer = self._link.transfer("up", request.num_bytes, now_s)
        self._on_sent(request, now_s)
        self._loop.at(transfer.end_s, lambda end_s: self._arrived(request, end_s))

    def _arrived(self, request: Request, now_s: float) -> None:
        if not request.for_answer:
            self._is_spooling = False
        self._on_delivered(request, now_s)
        self._empty_spool(now_s)

    def _empty_spool(self, now_s: float) -> None:
        """Send the next spooled request if the link is idle; at most one is in transit."""
        blocked = (self.breaker.is_open and not self._is_closing) or self._waiting or self._is_spooling
        if self._spool and not blocked and self._link.busy_until("up") <= now_s:
            self._is_spooling = True
            self._send(self._spool.popleft(), now_s)

    def _fall_back(self, request: Request, cause: Drop, now_s: float) -> None:
        if not self._keeps_late:
            self._drop(request, cause)
            return
        request.state.drops.append(cause)
        self.store(request, now_s)

    def _drop(self, request: Request, cause: Drop) -> None:
        request.state.drops.append(cause)
        self._on_given_up(request)
