"""A constraint that begins after the reasoning, which is free text between <think> and </think>."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from edgeai.spec.constraints.constraint import Constraint, ConstraintError, Grammar, Mask


@dataclass(frozen=True)
class AfterReasoning:
    """Grammar of an answer that may begin with reasoning; implements `Grammar`."""

    grammar: Grammar
    """Grammar of what follows the reasoning."""
    begin_id: int
    """Token that opens the reasoning, as the first one of the answer."""
    end_id: int
    """Token that closes it."""
    eos_ids: Collection[int]
    """Tokens that the reasoning may not hold, because an answer must follow."""
    is_open: bool
    """True if the prompt has opened the reasoning."""

    def start(self) -> Constraint:
        """See `Grammar`."""
        return _Position(self)


class _Position:
    """`Constraint` of an answer with reasoning."""

    def __init__(self, grammar: AfterReasoning) -> None:
        self._grammar, self._inner = grammar, grammar.grammar.start()
        self._tokens: list[int] = []
        self._num_free = 0  # tokens that belong to the reasoning, its marks included
        self._is_open = grammar.is_open

    def mask(self) -> Mask:
        """See `Constraint`."""
        if self._is_open:
            allowed = np.ones_like(self._inner.mask())
            allowed[list(self._grammar.eos_ids)] = False
            return allowed
        allowed = self._inner.mask()
        if self._may_open:
            allowed = allowed.copy()
            allowed[self._grammar.begin_id] = True
        return allowed

    def allows(self, token: int) -> bool:
        """See `Constraint`."""
        if self._is_open:
            return token not in self._grammar.eos_ids
        return (self._may_open and token == self._grammar.begin_id) or self._inner.allows(token)

    def advance(self, token: int) -> None:
        """See `Constraint`."""
        if not self.allows(token):
            raise ConstraintError(f"the token {token} is not allowed here")
        if self._is_open:
            self._is_open = token != self._grammar.end_id
            self._num_free += 1
        elif self._may_open and token == self._grammar.begin_id:
            self._is_open = True
            self._num_free += 1
        else:
            self._inner.advance(token)
        self._tokens.append(token)

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        keep = len(self._tokens) - count
        num_inner = len(self._tokens) - max(keep, self._num_free)
        if num_inner:
            self._inner.rollback(num_inner)
        del self._tokens[keep:]
        if keep < self._num_free:
            self._num_free = keep
            self._is_open = keep > 0 or self._grammar.is_open

    def forced(self) -> list[int]:
        """See `Constraint`."""
        return [] if self._is_open or self._may_open else self._inner.forced()

    @property
    def _may_open(self) -> bool:
        return not self._tokens and not self._grammar.is_open
