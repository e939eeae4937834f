"""Events that the engine emits while it works on a request. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class TokenLogprobs:
    """A sampled token and the target's log probabilities before temperature, truncation and penalties."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """Most likely tokens with their log probabilities, best first."""


@dataclass(frozen=True)
class Piece:
    """Text of one token."""

    token: int
    text: str
    """Empty for special tokens and for tokens that end inside a character."""
    is_draft: bool
    """True if the token is an accepted draft token."""
    logprobs: TokenLogprobs | None
    """None unless log probabilities were requested."""


@dataclass(frozen=True)
class SpeculationStats:
    """Speculation of one request; a step is a target pass that verified at least one draft token."""

    num_steps: int
    num_draft_tokens: int
    num_accepted: int
    histogram: Mapping[int, int]
    """Number of steps by number of accepted draft tokens."""
    max_draft_tokens: int
    """Most draft tokens in one step."""

    @property
    def accept_len(self) -> float:
        """Mean tokens per step, bonus token included."""
        return 1.0 + self.num_accepted / self.num_steps if self.num_steps else 1.0


@dataclass(frozen=True)
class Started:
    """The request has moved from the queue to a slot."""

    num_reused: int
    """Prompt tokens whose keys and values were already in the KV cache."""


@dataclass(frozen=True)
class Text:
    """New text of one cycle."""

    pieces: tuple[Piece, ...]
    num_accepted: int
    """Draft tokens accepted in this cycle."""
    num_drafted: int
    """Draft tokens verified in this cycle."""


@dataclass(frozen=True)
class Done:
    """The request is complete."""

    reason: FinishReason
    num_prompt_tokens: int
    num_reused: int
    num_tokens: int
    """Generated tokens up to the one that completes a stop text."""
    stats: SpeculationStats
    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Failed:
    """An exception ended the request; other requests are not affected."""

    error: Exception


@dataclass(frozen=True)
class Cancelled:
    """The request was cancelled, or the engine was closed."""


FinalEvent = Done | Failed | Cancelled
Event = Started | Text | FinalEvent
OnEvent = Callable[[Event], None]
