"""A difference between plain and speculative decoding. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeai.core.report.fields import about


@dataclass(frozen=True)
class Difference:
    """A position at which plain decoding continues with another token."""

    position: int = field(metadata=about("token", meaning="position in the answer, counted from 0"))
    plain: str = field(metadata=about("plain", meaning="text of plain decoding's token"))
    speculative: str = field(metadata=about("speculative", meaning="text of speculative decoding's token"))
    gap: float | None = field(
        metadata=about("gap", meaning="logit of plain decoding's token minus that of the other, greedy decoding only")
    )
    shift: float = field(
        metadata=about("shift", meaning="largest difference of any logit between speculative and plain decoding")
    )
    noise: float = field(metadata=about("noise", meaning="measured rounding noise of the answer"))
    """See `forced_decoding.py`."""
    is_tie: bool = field(metadata=about("tie", meaning="gap <= noise and shift <= 2 noise"))
    """The token follows from the logits used, `shift` <= 2 `noise` and, if greedy, `gap` <= `noise`."""
    why: str = field(metadata=about("reason", meaning="why it is not a tie"))
    """Empty for a tie."""
