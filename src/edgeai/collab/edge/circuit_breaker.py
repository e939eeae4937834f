"""A circuit breaker: stop requests while the cloud does not answer, and probe it at intervals."""

from __future__ import annotations


class CircuitBreaker:
    """Opens after a number of consecutive failures; while open, passes one probe per interval; closes on success.

    Args:
        failures: Number of consecutive failures that open the breaker.
        probe_s: Time between probes while it is open.
    """

    def __init__(self, failures: int, probe_s: float) -> None:
        self._limit, self._probe_s = failures, probe_s
        self._failures = 0
        self._last_probe_s = 0.0
        self.is_open = False
        self.num_opened = 0

    def allows(self, now_s: float) -> bool:
        """Return whether a request may be sent; while the breaker is open, that request is its probe."""
        if not self.is_open:
            return True
        if now_s - self._last_probe_s < self._probe_s:
            return False
        self._last_probe_s = now_s
        return True

    def succeeded(self) -> None:
        """Record an answer in time."""
        self._failures, self.is_open = 0, False

    def failed(self, now_s: float) -> None:
        """Record a late or missing answer."""
        self._failures += 1
        if not self.is_open and self._failures >= self._limit:
            self.is_open, self._last_probe_s = True, now_s
            self.num_opened += 1
