"""Acceptance: which draft tokens the target would have emitted itself.

At every node the next token is drawn once from the target's own distribution. If the draft tree has that token as a
child the walk goes on there, else it ends with the drawn token. The emitted tokens are therefore by construction draws
of plain decoding: the draft decides only how many come out of one pass of the target. With a deterministic draft tree
this accepts exactly as often as rejection sampling over the children does.

Source: EAGLE (arXiv 2401.15077) verification, simplified. Differs from the paper: one draw per level instead of
accept/reject per child.
"""

from __future__ import annotations

from collections.abc import Collection
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
    """Walk down the tree along the target's choices.

    Args:
        tree: What was verified.
        logits: The target's for every node [N, V].
        sampler: Draws once per emitted token; greedy at temperature 0.
        eos_ids: The walk ends with the first of these.
        limit: Most tokens emitted.
    """
    children = tree.children()
    pick = sampler.picker(logits)
    path, tokens = [0], list[int]()
    while True:
        token = pick(path[-1])
        tokens.append(token)
        child = children.get((path[-1], token))
        if child is None:
            break
        path.append(child)
        if token in eos_ids or len(tokens) == limit:
            break
    return Accepted(tuple(path), tuple(tokens))
