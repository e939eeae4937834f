"""The draft tree: continuations of a text that the target verifies in one pass.

Source: EAGLE-2, arXiv 2406.16858, section 4 (expansion and re-ranking by cumulative confidence).

Shapes: N nodes including the root, P candidates before re-ranking. All tensors are small and on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


@dataclass(frozen=True)
class DraftTree:
    """Tokens to verify. Row 0 is the root, the newest token of the target; parents come before children."""

    tokens: Tensor  # [N] int64
    parents: Tensor  # [N] int64, root -1
    depths: Tensor  # [N] int64, root 0
    ancestors: Tensor  # [N, N] bool: node i attends to node j; the diagonal is True
    scores: Tensor  # [N] float32, the drafter's cumulative log probability, root 0

    @property
    def size(self) -> int:
        """Number of nodes, including the root."""
        return int(self.tokens.shape[0])

    def children(self) -> dict[tuple[int, int], int]:
        """Return the child of each (node, token)."""
        pairs = zip(self.parents.tolist()[1:], self.tokens.tolist()[1:], strict=True)
        return {pair: node for node, pair in enumerate(pairs, start=1)}

    def walk(self, next_token: Callable[[int], int | None]) -> list[int]:
        """Return the rows of a path that starts at the root and ends where no child has the next token.

        Args:
            next_token: Function from a row of the path to the token that follows it; None ends the path.
        """
        children, path = self.children(), [0]
        while (token := next_token(path[-1])) is not None:
            child = children.get((path[-1], token))
            if child is None:
                break
            path.append(child)
        return path

    def follow(self, tokens: Sequence[int]) -> list[int]:
        """Return the rows of the longest path whose tokens are a prefix of `tokens`, the root first."""
        rest = iter(tokens)
        return self.walk(lambda _: next(rest, None))

    def num_accepted(self, tokens: Sequence[int]) -> int:
        """Return the number of draft tokens that verification accepts when the text continues with `tokens`."""
        return len(self.follow(tokens)) - 1

    def ranks(self) -> list[int]:
        """Return the rank of each node by confidence: the root 0, the best draft node 1; parents before children."""
        order = np.argsort(-self.scores.numpy(), kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        ranks: list[int] = place.tolist()
        return ranks


def build_tree(tokens: Sequence[int], parents: Sequence[int], scores: Sequence[float] | Array) -> DraftTree:
    """Build a tree: derive depths and ancestors.

    Args:
        tokens: Tokens of the nodes, root first [N].
        parents: Row of each node's parent, smaller than its own; root -1 [N].
        scores: Cumulative log probabilities; root 0 [N].
    """
    size = len(tokens)
    depths = [0] * size
    ancestors = np.eye(size, dtype=bool)
    for node in range(1, size):
        parent = parents[node]
        depths[node] = depths[parent] + 1
        ancestors[node, : parent + 1] = ancestors[parent, : parent + 1]
    return DraftTree(
        tokens=torch.tensor(tokens),
        parents=torch.tensor(parents),
        depths=torch.tensor(depths),
        ancestors=torch.from_numpy(ancestors),
        scores=torch.from_numpy(np.asarray(scores, dtype=np.float32)),
    )


_ROOT = build_tree([0], [-1], [0.0])


def root_only(token: int) -> DraftTree:
    """Return a tree without draft nodes, whose verification is plain decoding of one token."""
    return replace(_ROOT, tokens=torch.tensor([token]))


def rerank(root: int, tokens: Array, parents: Array, scores: Array, nodes: int) -> DraftTree:
    """Return the tree of the candidates with the highest cumulative log probabilities.

    A child never scores above its parent, and the stable sort keeps the parent, created earlier, first on ties: the
    kept set always contains the ancestors of its nodes.

    Args:
        root: Token of the root.
        tokens: Tokens of the candidates in order of creation, parents before children [P].
        parents: Parent candidate of each candidate, -1 for the root [P].
        scores: Cumulative log probabilities [P].
        nodes: Maximum number of candidates kept.
    """
    kept = np.sort(np.argsort(-scores, kind="stable")[:nodes])
    row = np.zeros(len(tokens) + 1, dtype=np.int64)  # the last entry, reached by index -1, is the root's row 0
    row[kept] = np.arange(1, len(kept) + 1)
    return build_tree(
        [root, *tokens[kept].tolist()], [-1, *row[parents[kept]].tolist()], np.concatenate(([0.0], scores[kept]))
    )
