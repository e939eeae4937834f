"""What the engine is asked to do and what it tells while doing it. No torch, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeai.spec.config.sampling import SamplingConfig

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Job:
    """One answer to one prompt."""

    prompt_ids: tuple[int, ...]
    max_tokens: int
    """Most tokens generated; prompt and answer must fit the context."""
    sampling: SamplingConfig
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these texts."""
    speculates: bool = True
    frequency_penalty: float = 0.0
    """Taken from a token's logit for every time the answer has it already."""
    presence_penalty: float = 0.0
    """Taken once from the logits of all tokens that the answer has already."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    num_logprobs: int | None = None
    """Alternatives reported for each token; None reports no log probabilities at all."""


@dataclass(frozen=True)
class Pick:
    """A chosen token and the target's log probabilities, before temperature, cuts and penalties."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The most likely tokens, best first."""


@dataclass(frozen=True)
class Piece:
    """The text that one token brought."""

    token: int
    text: str
    """May be empty: special tokens, and tokens that end inside of a character."""
    is_draft: bool
    """Whether the drafter had foreseen it."""
    pick: Pick | None
    """Only if log probabilities were asked for."""


@dataclass(frozen=True)
class SpeculationStats:
    """Speculation of one request; a step is a pass of the target that verified at least one draft token."""

    num_steps: int
    num_draft_tokens: int
    num_accepted: int
    histogram: Mapping[int, int]
    """Accepted draft tokens of a step: number of steps."""
    max_draft_tokens: int
    """Of one step."""

    @property
    def accept_len(self) -> float:
        """Tokens per step, the bonus token counted."""
        return 1.0 + self.num_accepted / self.num_steps if self.num_steps else 1.0


@dataclass(frozen=True)
class Started:
    """The request has left the queue."""

    num_reused: int
    """Prompt tokens whose keys and values were taken over."""


@dataclass(frozen=True)
class Text:
    """New text of one cycle."""

    pieces: tuple[Piece, ...]
    num_accepted: int
    """Draft tokens accepted in the cycle that brought it."""
    num_drafted: int


@dataclass(frozen=True)
class Done:
    """The request is over."""

    reason: FinishReason
    num_prompt_tokens: int
    num_reused: int
    num_tokens: int
    """Generated; those behind a stop text do not count."""
    stats: SpeculationStats
    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Failed:
    """Something broke while the request was worked on; the others go on."""

    error: Exception


@dataclass(frozen=True)
class Cancelled:
    """The request was cancelled, or the engine was closed."""


Event = Started | Text | Done | Failed | Cancelled
