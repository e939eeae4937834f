"""Interface of constraints: which tokens may follow a growing answer. Imports no torch.

A `Grammar` is compiled once per request; each of its answers follows a `Constraint` of its own. The sampler masks the
logits and advances the constraint with every token that it samples. Drafting moves the constraint along the paths of a
tree and back. A constraint is used by one thread.

Shapes: V vocabulary of the target.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeai.core.errors import EdgeAIError

Mask = npt.NDArray[np.bool_]


class ConstraintError(EdgeAIError):
    """A grammar cannot be compiled or followed: it has an error, allows no text, or exceeds a limit."""


class Constraint(Protocol):
    """Position of one answer in its grammar."""

    def mask(self) -> Mask:
        """Return which tokens may come next [V]; at least one. End-of-text tokens may where the text may end.

        Raises:
            ConstraintError: The grammar exceeds a limit here, or no text can follow.
        """

    def allows(self, token: int) -> bool:
        """Return True if the token may come next; as `mask`, but faster for few tokens."""

    def advance(self, token: int) -> None:
        """Append an allowed token.

        Raises:
            ConstraintError: The token is not allowed, or the grammar exceeds a limit.
        """

    def rollback(self, count: int) -> None:
        """Remove the last `count` tokens, at least one."""

    def forced(self) -> list[int]:
        """Return the tokens of the text that has to come next, as the tokenizer splits it; empty if there is a choice.

        `mask` may allow other splits of the same text, so that these tokens are a draft.
        """


class Grammar(Protocol):
    """A compiled grammar."""

    def start(self) -> Constraint:
        """Return the constraint of a new answer."""
