"""What `spec serve` and `spec load` report. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ServePlan:
    """What will be reserved."""

    name: str
    context: int
    slots: int
    slots_asked: int
    kv_bytes: int
    kv_bytes_per_slot: int
    drafter: str
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ServeReport:
    """What the server did until it was stopped."""

    url: str
    uptime_s: float
    num_requests: int
    num_tokens: int
    num_prompt_tokens: int
    accept_len: float
    """Tokens per tree, bonus token included; 1 if no tree was verified."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Round:
    """One round of clients."""

    clients: int
    speculates: bool
    num_requests: int
    num_tokens: int
    wall_s: float
    first_s: tuple[float, float]
    """Time to first token: median, 95th percentile."""
    gap_s: tuple[float, float, float]
    """Inter-token latency: 50th, 95th, 99th percentile."""
    accept_len: float
    num_ties: int
    """Answers that differ from plain decoding within rounding noise."""
    num_wrong: int

    @property
    def tokens_per_s(self) -> float:
        """Of all clients together."""
        return self.num_tokens / self.wall_s


@dataclass(frozen=True)
class LoadReport:
    """All rounds, and memory."""

    dtype: str
    rounds: tuple[Round, ...]
    memory_bytes: tuple[int, ...]
    """Of the server's process, after equal parts of the short requests."""

    @property
    def is_ok(self) -> bool:
        """No answer was wrong."""
        return not any(one.num_wrong for one in self.rounds)

    @property
    def scaling(self) -> float:
        """Tokens per second of the most clients, relative to one client; both with speculation."""
        rates = {one.clients: one.tokens_per_s for one in self.rounds if one.speculates}
        return rates[max(rates)] / rates[min(rates)]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rounds = [{**asdict(one), "tokens_per_s": one.tokens_per_s} for one in self.rounds]
        return {**asdict(self), "rounds": rounds, "scaling": self.scaling, "is_ok": self.is_ok}
