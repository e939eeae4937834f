"""The drafter protocol: proposes draft trees for one growing text.

Shapes: T prompt tokens, A accepted tokens, F target features, D draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree


class Drafter(Protocol):
    """Proposes continuations of a text that grows by tokens the target has confirmed.

    Shapes: T prompt tokens, A accepted tokens, F target features.
    """

    name: str
    """Tells drafters with different proposals apart, across processes."""
    aux_layers: tuple[int, ...]
    """Target layers whose input states are the features [F] it reads, see `Target.with_aux_layers`; empty if none."""
    vocabulary: Tensor | None
    """Token ids that can be drafted [D]; None: all of them."""

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """Forget everything and begin with a prompt and its target features [T, F]."""

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """Draft what may follow `root`, the target's newest token, which itself is not yet part of the text.

        The caller keeps the root's position plus `tree.depth` within the target's positions.
        """

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """Append confirmed tokens, the root of the last proposal first, with their target features [A, F]."""
