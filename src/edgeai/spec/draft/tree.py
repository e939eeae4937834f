"""The draft tree: which continuations of the text the target is asked to check in one pass.

Source: EAGLE-2, arXiv 2406.16858, section 4 (expansion and re-ranking by cumulative confidence).

Shapes: N nodes with the root, P candidates before re-ranking. Everything here is small and lives on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


@dataclass(frozen=True)
class DraftTree:
    """Tokens to verify. Row 0 is the root, which the target has already produced; parents come before children."""

    tokens: Tensor  # [N] int64
    parents: Tensor  # [N] int64, root -1
    depths: Tensor  # [N] int64, root 0
    ancestors: Tensor  # [N, N] bool: row i sees column j; the diagonal is True
    scores: Tensor  # [N] float32, the drafter's cumulative log probability, root 0

    @property
    def size(self) -> int:
        """Nodes, the root included."""
        return int(self.tokens.shape[0])

    def children(self) -> dict[tuple[int, int], int]:
        """Node reached from (node, token)."""
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
        """Place of each node in the order of confidence: the root 0, the best draft node 1; parents before children."""
        order = np.argsort(-self.scores.numpy(), kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        ranks: list[int] = place.tolist()
        return ranks


def build_tree(tokens: Sequence[int], parents: Sequence[int], scores: Sequence[float] | Array) -> DraftTree:
    """Derive depths and ancestors.

    Args:
        tokens: Root first [N].
        parents: Row of each node's parent, smaller than its own; root -1 [N].
        scores: Cumulative log probability; root 0 [N].
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


def root_only(token: int) -> DraftTree:
    """No draft: verifying this is plain decoding of one token."""
    return build_tree([token], [-1], [0.0])


def rerank(root: int, tokens: Array, parents: Array, scores: Array, nodes: int) -> DraftTree:
    """Keep the candidates of highest cumulative log probability.

    A child never scores above its parent, and the stable sort puts the parent, created earlier, first when they are
    equal: the kept set always contains the ancestors of its nodes.

    Args:
        root: Token of the root.
        tokens: Candidates in order of creation, parents before children [P].
        parents: Candidate that each continues, -1 for the root [P].
        scores: Cumulative log probability [P].
        nodes: Candidates kept; fewer if there are fewer.
    """
    kept = np.sort(np.argsort(-scores, kind="stable")[:nodes])
    row = np.zeros(len(tokens) + 1, dtype=np.int64)  # the last entry, reached by index -1, is the root's row 0
    row[kept] = np.arange(1, len(kept) + 1)
    return build_tree(
        [root, *tokens[kept].tolist()], [-1, *row[parents[kept]].tolist()], np.concatenate(([0.0], scores[kept]))
    )
