"""Record of one difference between plain and speculative decoding. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One position at which plain decoding would have gone on with another token."""

    position: int
    """Token of the answer, counted from 0."""
    plain: str
    """Text of plain decoding's token."""
    speculative: str
    """Text of the token that speculative decoding wrote."""
    gap: float | None
    """Greedy decoding only: plain decoding's logit of its own token minus that of the other."""
    shift: float
    """Largest difference over the vocabulary between the logits speculative decoding used and plain decoding's."""
    noise: float
    """Measured rounding noise of this answer; see `lossless.py`."""
    is_tie: bool
    """The token follows from the logits used, `shift` <= 2 `noise` and, if greedy, `gap` <= `noise`."""
    why: str
    """In a word or two, why it is none; empty for a tie."""
