"""The drafter protocol: proposes draft trees for one growing text.

Shapes: T prompt tokens, A accepted tokens, F target features, D draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree


def limit_depth(tree: TreeConfig, remaining: int) -> TreeConfig | None:
    """Limit the depth of a tree to what can still be emitted; None if nothing can be drafted.

    The last remaining token is the bonus token: a draft token accepted in its place would leave no room for it. The
    limit also keeps every position inside the context.

    Args:
        tree: Largest tree per cycle.
        remaining: Number of tokens that may still be emitted, at least 1.
    """
    depth = min(tree.depth, remaining - 1)
    if depth == tree.depth:
        return tree
    return tree.model_copy(update={"depth": depth}) if depth > 0 else None


class Drafter(Protocol):
    """Proposes continuations of a text that grows by tokens accepted by the target."""

    name: str
    """Identifier that differs between drafters with different proposals, stable across processes."""
    aux_layers: tuple[int, ...]
    """Target layers whose input states are the features [F] it reads, see `Target.with_aux_layers`; empty if none."""
    vocabulary: Tensor | None
    """Token ids that can be drafted [D]; None for all tokens."""

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """Start a new text with a prompt and its target features [T, F]."""

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """Draft continuations of `root`, the target's newest token, which is not yet part of the text.

        The caller keeps the root's position plus `tree.depth` within the target's positions.
        """

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """Append accepted tokens, the root of the last proposal first, with their target features [A, F]."""
