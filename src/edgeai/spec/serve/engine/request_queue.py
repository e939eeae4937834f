"""Bounded queue between the threads that submit requests and the engine's thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from edgeai.core.errors import EdgeAIError
from edgeai.spec.serve.engine.jobs import Handle


class QueueFull(EdgeAIError):
    """The queue holds its maximum number of waiting requests."""


class EngineClosed(EdgeAIError):
    """The engine is draining or closed and accepts no requests."""


class RequestQueue:
    """Thread-safe queue of submitted requests.

    Args:
        capacity: Most waiting requests, in addition to those that free slots can take.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._handles: deque[Handle] = deque()
        self._changed = threading.Condition()
        self.is_draining = self.is_closed = False

    def __len__(self) -> int:
        """Number of waiting requests."""
        return len(self._handles)

    def put(self, handles: Sequence[Handle], *, num_free: int) -> None:
        """Append all requests or none.

        Args:
            handles: Submitted requests.
            num_free: Free slots of the engine.

        Raises:
            QueueFull: The queue has no room for all of them.
            EngineClosed: The queue is draining or closed.
        """
        with self._changed:
            if self.is_draining or self.is_closed:
                raise EngineClosed("the server is shutting down", hint="use another server, or try again later")
            if len(self._handles) + len(handles) > self._capacity + num_free:
                raise QueueFull(
                    f"the queue is full: {len(self._handles)} requests are waiting", hint="try again in a moment"
                )
            self._handles.extend(handles)
            self._changed.notify()

    def pop(self) -> Handle | None:
        """Remove and return the oldest request; None if the queue is empty."""
        with self._changed:
            return self._handles.popleft() if self._handles else None

    def pop_cancelled(self) -> list[Handle]:
        """Remove and return the cancelled requests."""
        with self._changed:
            cancelled = [handle for handle in self._handles if handle.is_cancelled]
            for handle in cancelled:
                self._handles.remove(handle)
        return cancelled

    def wait(self, *, is_busy: bool) -> bool:
        """Block until there is work; return False once the queue is closed.

        Args:
            is_busy: True if the engine has active requests, which are work as well.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or self._handles or is_busy)
            return not self.is_closed

    def wake(self) -> None:
        """Wake the engine's thread, for example after a cancellation."""
        with self._changed:
            self._changed.notify()

    def drain(self) -> None:
        """Reject new requests; those in the queue stay."""
        with self._changed:
            self.is_draining = True
            self._changed.notify()

    def close(self) -> None:
        """Reject new requests and end `wait`."""
        with self._changed:
            self.is_closed = True
            self._changed.notify()
