"""Verification: accept the draft tokens that the target itself emits.

At every node the next token is sampled once from the target's own distribution. If it is a child in the draft tree, the
path continues there; otherwise the path ends and the token is emitted as the bonus token. The emitted tokens are
therefore samples of plain decoding by construction: the draft determines only how many of them one target pass emits.
For a deterministic draft tree the acceptance rate equals that of rejection sampling over the children.

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
    """Accepted tree rows, the root first, ascending."""
    tokens: tuple[int, ...]
    """Emitted tokens: those of the path after the root, then the bonus token unless the text ended before it."""

    @property
    def num_accepted(self) -> int:
        """Number of accepted draft tokens, without the bonus token."""
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
