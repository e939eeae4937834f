"""Acceptance: which draft tokens the target would have emitted itself.

At every node the next token is drawn once from the target's own distribution. If the draft tree has that token as a
child the walk goes on there, else it ends with the drawn token. The emitted tokens are therefore by construction draws
of plain decoding: the draft decides only how many come out of one pass of the target. With a deterministic draft tree
this accepts exactly as often as rejection sampling over the children does.

Source: EAGLE (arXiv 2401.15077) verification, simplified. Differs from the paper: one draw per level instead of
accept/reject per child.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.sampling import Sampler


@dataclass(frozen=True)
class Accepted:
    """Outcome of one verification."""

    path: tuple[int, ...]
    """Tree rows to keep, the root first, ascending."""
    tokens: tuple[int, ...]
    """Tokens emitted: those of the path after the root, then the bonus token unless the text ended before it."""

    @property
    def num_accepted(self) -> int:
        """Draft tokens accepted, the bonus not among them."""
        return len(self.path) - 1


def accept(
    tree: DraftTree, logits: Tensor, sampler: Sampler, *, eos_ids: Collection[int] = (), limit: int | None = None
) -> Accepted:
    """Accept the path of the tree that the target's own draws follow.

    Args:
        tree: Verified draft tree.
        logits: The target's logits after every node [N, V].
        sampler: Sampler of the request, which draws once per emitted token; greedy at temperature 0.
        eos_ids: End-of-text tokens; the first one ends the path.
        limit: Maximum number of emitted tokens.
    """
    return accept_choices(tree, sampler.picker(logits), eos_ids=eos_ids, limit=limit)


def accept_choices(
    tree: DraftTree, choose: Callable[[int], int], *, eos_ids: Collection[int] = (), limit: int | None = None
) -> Accepted:
    """Accept the path of the tree along given choices of the target.

    Args:
        tree: Verified draft tree.
        choose: Function from a row of the tree to the target's next token; called once per emitted token.
        eos_ids: End-of-text tokens; the first one ends the path.
        limit: Maximum number of emitted tokens.
    """
    tokens: list[int] = []

    def next_token(row: int) -> int | None:
        if tokens and (tokens[-1] in eos_ids or len(tokens) == limit):
            return None
        tokens.append(choose(row))
        return tokens[-1]

    path = tree.walk(next_token)
    return Accepted(tuple(path), tuple(tokens))
