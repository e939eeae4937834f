"""A circuit breaker: when the cloud does not answer, stop asking, and try one frame now and then."""

from __future__ import annotations


class Breaker:
    """Opens after so many failures in a row; while open, lets one request through every so often; closes on success.

    Args:
        failures: In a row, that open it.
        probe_s: Time between tries while it is open.
    """

    def __init__(self, failures: int, probe_s: float) -> None:
        self._limit, self._probe_s = failures, probe_s
        self._failures = 0
        self._last_try_s = 0.0
        self.is_open = False
        self.num_opened = 0

    def allows(self, now_s: float) -> bool:
        """Whether a request may go now; a yes while it is open is its try."""
        if not self.is_open:
            return True
        if now_s - self._last_try_s < self._probe_s:
            return False
        self._last_try_s = now_s
        return True

    def succeeded(self) -> None:
        """An answer came in time."""
        self._failures, self.is_open = 0, False

    def failed(self, now_s: float) -> None:
        """An answer did not come in time."""
        self._failures += 1
        if not self.is_open and self._failures >= self._limit:
            self.is_open, self._last_try_s = True, now_s
            self.num_opened += 1
