"""The edge's side of the uplink: few frames in flight, a short waiting room, a breaker, and a spool for training.

wanted for an answer ─ breaker open? ─ place in flight? ─ send
                         │               └ wait (newest first; the oldest falls out)
                         └ given up; what teaches goes to the spool, which empties while the line is idle
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgeai.collab.config.run import UploadConfig
from edgeai.collab.edge.circuit_breaker import Breaker
from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Drop, Request
from edgeai.core.link import Link


class Uplink:
    """Sends requests.

    Args:
        loop: Virtual time.
        link: Carries them.
        config: Limits.
        keeps: What cannot be answered in time is still sent, for training.
        sent: Hears of a request that was handed to the link.
        delivered: Hears of one that arrived at the cloud.
        given_up: Hears of one that will never be sent.
    """

    def __init__(
        self,
        loop: EventLoop,
        link: Link,
        config: UploadConfig,
        *,
        keeps: bool,
        sent: Callable[[Request, float], None],
        delivered: Callable[[Request, float], None],
        given_up: Callable[[Request], None],
    ) -> None:
        self._loop, self._link, self._config, self._keeps = loop, link, config, keeps
        self._sent, self._delivered, self._given_up = sent, delivered, given_up
        self._waiting: deque[Request] = deque()
        self._spool: deque[Request] = deque()
        self._num_in_flight = 0
        self._is_spooling = False
        self._is_closing = False
        self.breaker = Breaker(config.breaker_failures, config.breaker_probe_s)

    def ask(self, request: Request, now_s: float) -> None:
        """Takes in a request that wants an answer."""
        if now_s >= request.play.deadline_s:  # the edge itself was slow
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
        """Takes in a request that only teaches."""
        request.for_answer = False
        self._spool.append(request)
        if len(self._spool) > self._config.spool_frames:
            self._drop(self._spool.popleft(), "spool")
        self._empty_spool(now_s)

    def answered(self, now_s: float) -> None:
        """A request for an answer came back, with whatever news: its place is free."""
        self._num_in_flight -= 1
        while self._waiting and self._num_in_flight < self._config.max_in_flight:
            request = self._waiting.pop()
            if now_s >= request.play.deadline_s:
                self._fall_back(request, "expired", now_s)
            else:
                self._send(request, now_s)
        self._empty_spool(now_s)

    def close(self, now_s: float) -> None:
        """The stream has ended: what is in the spool goes up, whether or not the cloud answers in time."""
        self._is_closing = True
        self._empty_spool(now_s)

    def _send(self, request: Request, now_s: float) -> None:
        self._num_in_flight += request.for_answer
        transfer = self._link.transfer("up", request.num_bytes, now_s)
        self._sent(request, now_s)
        self._loop.at(transfer.end_s, lambda end_s: self._arrived(request, end_s))

    def _arrived(self, request: Request, now_s: float) -> None:
        if not request.for_answer:
            self._is_spooling = False
        self._delivered(request, now_s)
        self._empty_spool(now_s)

    def _empty_spool(self, now_s: float) -> None:
        """Sends the next one if nothing else wants the line; there is never more than one on it."""
        blocked = (self.breaker.is_open and not self._is_closing) or self._waiting or self._is_spooling
        if self._spool and not blocked and self._link.busy_until("up") <= now_s:
            self._is_spooling = True
            self._send(self._spool.popleft(), now_s)

    def _fall_back(self, request: Request, cause: Drop, now_s: float) -> None:
        if not self._keeps:
            self._drop(request, cause)
            return
        request.play.drops.append(cause)
        self.store(request, now_s)

    def _drop(self, request: Request, cause: Drop) -> None:
        request.play.drops.append(cause)
        self._given_up(request)
