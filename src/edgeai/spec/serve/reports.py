"""Records of `edgeai spec serve` and `spec load`. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from edgeai.core.report.fields import About, about


@dataclass(frozen=True)
class ServePlan:
    """Memory that the server reserves."""

    name: str = field(metadata=about("model"))
    context: int = field(metadata=about("context", meaning="tokens per slot"))
    slots: int = field(metadata=about("slots", meaning="requests decoded at the same time"))
    slots_asked: int = field(metadata=about("slots configured", meaning="kv_budget_mib may allow fewer"))
    kv_bytes: int = field(metadata=about("KV cache"))
    kv_bytes_per_slot: int = field(metadata=about("KV cache per slot"))
    drafter: str = field(metadata=about("drafter"))
    dtype: str = field(metadata=about("number format"))
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ServeReport:
    """Totals of a server from start to stop."""

    url: str = field(metadata=about("address"))
    uptime_s: float = field(metadata=about("uptime"))
    num_requests: int = field(metadata=about("requests"))
    num_tokens: int = field(metadata=about("tokens written"))
    num_prompt_tokens: int = field(metadata=about("prompt tokens read"))
    accept_len: float = field(
        metadata=about("accept_len", unit="1", best="max", meaning="tokens per verified tree, bonus token included")
    )
    """1 if no tree was verified."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LoadRound:
    """One round: a number of clients, with or without speculation."""

    COMPUTED: ClassVar = {"tokens_per_s": About("tokens/s", "", "all clients together", "max")}

    clients: int = field(metadata=about("clients"))
    speculates: bool = field(metadata=about("speculation"))
    num_requests: int = field(metadata=about("requests"))
    num_tokens: int = field(metadata=about("tokens"))
    wall_s: float = field(metadata=about("wall time"))
    first_s: tuple[float, float] = field(metadata=about("first token", meaning="median and 95th percentile"))
    gap_s: tuple[float, float, float] = field(
        metadata=about("between tokens", meaning="median, 95th and 99th percentile")
    )
    accept_len: float = field(metadata=about("accept_len", unit="1", best="max"))
    num_ties: int = field(metadata=about("near-ties", meaning="answers that differ within rounding noise"))
    num_wrong: int = field(
        metadata=about("wrong", meaning="answers that differ beyond it; native and float32 allow no difference")
    )

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all clients together."""
        return self.num_tokens / self.wall_s


@dataclass(frozen=True)
class LoadReport:
    """Rounds of a load test, and the server's memory."""

    COMPUTED: ClassVar = {
        "scaling": About("scaling", "", "tokens/s of the most clients / of one client, with speculation", "max"),
        "is_ok": About("all answers correct"),
    }

    dtype: str = field(metadata=about("number format"))
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    rounds: tuple[LoadRound, ...] = field(metadata=about("rounds"))
    memory_bytes: tuple[int, ...] = field(
        metadata=about(
            "memory of the server", meaning="after equal parts of the short requests; none with memory_requests=0"
        )
    )

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
