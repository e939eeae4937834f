"""What `edgeai spec bench` finds out. Every number carries its definition and unit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeai.spec.decoding.difference import Difference

ACCEPT_LEN = "tokens emitted by verify cycles / verify cycles, the bonus token counted, so that plain decoding has 1.0"
ACCEPTANCE = "verify cycles in which the draft token at this depth was accepted / all verify cycles"
TOKENS_PER_S = (
    "tokens emitted by cycles / time of the cycles, all answers of a repeat together; without the prefill and its token"
)


@dataclass(frozen=True)
class BenchPlan:
    """How much a bench would decode."""

    num_prompts: int
    num_turns: int
    """User turns answered per repeat and decoder."""
    num_decoders: int
    """Plain, speculative, and peers."""
    max_tokens: int
    """Most tokens decoded in all."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """A number measured once per repeat."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(min(values), statistics.median(values), max(values))


@dataclass(frozen=True)
class CycleTimes:
    """Where the mean cycle of speculative decoding spends its time."""

    draft_s: float
    verify_s: float
    commit_s: float
    """Accepting a path, and moving its keys and values."""
    rest_s: float
    """Outside of cycles, per cycle: reserving the cache, turning tokens into text. Not part of tokens/s."""


@dataclass(frozen=True)
class Cost:
    """One point of the cost curve T(n)."""

    num_tokens: int
    """Tokens that the target verifies in one pass."""
    verify_s: float


@dataclass(frozen=True)
class AnswerDifference:
    """A difference and the answer it is in."""

    prompt: str
    turn: int
    """Counted from 0."""
    difference: Difference


@dataclass(frozen=True)
class Lossless:
    """Comparison of the speculative answers with the plain ones, all repeats; see `lossless.py`."""

    ok: bool
    """No difference but ties within rounding noise; float32 allows no difference at all."""
    num_answers: int
    num_equal: int
    """Answers equal token for token."""
    num_ties: int
    """Positions at which a tie within rounding noise fell the other way."""
    num_mismatches: int
    """Positions that rounding does not explain."""
    noise: float
    """Largest rounding noise measured, in logits; 0 if every answer was equal."""
    differences: tuple[AnswerDifference, ...]


@dataclass(frozen=True)
class PeerResult:
    """Another implementation on the same prompts, number format and threads, interleaved with ours."""

    name: str
    tokens_per_s: Spread
    """New tokens after the first delivery / time since it, which leaves the prefill out as ours does."""
    num_equal: int
    """Answers equal to our plain decoding's token for token."""
    num_answers: int


@dataclass(frozen=True)
class BenchReport:
    """Plain against speculative decoding."""

    target: str
    draft: str
    """Kind of drafter, with the head's folder."""
    dtype: str
    device: str
    hardware: str
    """Processor or GPU, threads, torch version."""
    prompts: str
    num_prompts: int
    num_answers: int
    """Prompts times turns answered."""
    max_tokens: int
    temperature: float
    repeats: int

    mode: Literal["speculative", "plain"]
    """plain: speculation would not pay here, or none was asked for; there is nothing to compare then."""
    tree: str
    """The draft tree's size; empty for plain decoding."""
    tree_why: str
    """How the tree, or plain decoding, was chosen."""

    plain_tokens_per_s: Spread
    speculative_tokens_per_s: Spread
    """The same as plain where the mode is plain."""
    tokens_per_s_definition: str
    ratio: Spread
    """Speculative / plain tokens per second of each repeat."""
    num_tokens: int
    """Tokens emitted by speculative cycles in one repeat."""
    num_cycles: int
    """Verify cycles in one repeat."""
    accept_len: float
    accept_len_definition: str
    acceptance: tuple[float, ...]
    """By depth in the tree, the first draft token first."""
    acceptance_definition: str
    draft_nodes: float
    """Draft nodes verified per cycle, mean."""
    coverage_frac: float | None
    """Share of plain decoding's tokens that the draft vocabulary holds; None if it holds all tokens."""
    cycle: CycleTimes
    cost_curve: tuple[Cost, ...]
    peak_memory_bytes: int
    """Of this process, peers included; on a GPU what torch allocated there."""
    lossless: Lossless | None
    """None where the mode is plain: nothing was compared."""
    peers: tuple[PeerResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
