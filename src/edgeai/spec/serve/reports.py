"""Reports of `spec serve` and `spec load`. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ServePlan:
    """Memory that the server reserves."""

    name: str
    """Name of the served model."""
    context: int
    """Most tokens of prompt and answer."""
    slots: int
    """Slots that fit the memory budget."""
    slots_asked: int
    """Slots that the config requests."""
    kv_bytes: int
    kv_bytes_per_slot: int
    drafter: str
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ServeReport:
    """Totals of a server from start to stop."""

    url: str
    uptime_s: float
    num_requests: int
    num_tokens: int
    num_prompt_tokens: int
    accept_len: float
    """Mean tokens per verified tree, bonus token included; 1 if no tree was verified."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LoadRound:
    """One round: a number of clients, with or without speculation."""

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
        """Tokens per second of all clients together."""
        return self.num_tokens / self.wall_s


@dataclass(frozen=True)
class LoadReport:
    """Rounds of a load test, and the server's memory."""

    dtype: str
    rounds: tuple[LoadRound, ...]
    memory_bytes: tuple[int, ...]
    """Resident memory of the server process after each equal share of the short requests."""

    @property
    def is_ok(self) -> bool:
        """True if no answer was wrong."""
        return not any(one.num_wrong for one in self.rounds)

    @property
    def scaling(self) -> float:
        """Tokens per second with the most clients relative to the fewest, both with speculation."""
        rates = {one.clients: one.tokens_per_s for one in self.rounds if one.speculates}
        return rates[max(rates)] / rates[min(rates)]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        rounds = [{**asdict(one), "tokens_per_s": one.tokens_per_s} for one in self.rounds]
        return {**asdict(self), "rounds": rounds, "scaling": self.scaling, "is_ok": self.is_ok}
