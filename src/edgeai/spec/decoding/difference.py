"""A difference between plain and speculative decoding. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """A position at which plain decoding continues with another token."""

    position: int
    """Index of the token in the answer, from 0."""
    plain: str
    """Text of the token from plain decoding."""
    speculative: str
    """Text of the token from speculative decoding."""
    gap: float | None
    """Greedy decoding only: plain decoding's logit of its own token minus that of the other token."""
    shift: float
    """Largest difference over the vocabulary between the logits speculative decoding used and plain decoding's."""
    noise: float
    """Measured rounding noise of this answer; see `forced_decoding.py`."""
    is_tie: bool
    """The token follows from the logits used, `shift` <= 2 `noise` and, if greedy, `gap` <= `noise`."""
    why: str
    """Reason why it is not a near-tie; empty for a near-tie."""
