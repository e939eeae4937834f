"""Draft trees under a constraint: forbidden nodes are pruned, and forced tokens are drafted without the drafter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeai.spec.constraints.constraint import Constraint
from edgeai.spec.draft.tree import DraftTree, rerank

_MAX_DEPTH = 64  # longer chains of forced tokens continue in the next cycle


def constrain(tree: DraftTree, constraint: Constraint, *, nodes: int, depth: int) -> DraftTree:
    """Prune the nodes that the grammar forbids, with their subtrees, and add the tokens that it forces.

    Every node is judged after the tokens of its own path. A forced token gets the score of its parent, because the
    target can hardly refuse it; the nodes with the best scores are kept. A chain of forced tokens below the root is
    kept even if it is longer than `nodes`.

    Args:
        tree: Draft tree; the root alone if nothing was drafted.
        constraint: Constraint that has read the root; unchanged afterwards.
        nodes: Maximum number of draft nodes.
        depth: Maximum depth of a node, at most the number of tokens that may still be emitted less one.
    """
    grower = _Grower(tree, constraint, depth)
    grower.visit(0, -1, 0, 0.0, constraint.forced())
    tokens, parents = np.array(grower.tokens, dtype=np.int64), np.array(grower.parents, dtype=np.int64)
    scores = np.array(grower.scores, dtype=np.float32)
    num_certain = int((scores == 0.0).sum())  # one path: a certain token has no certain siblings
    return rerank(int(tree.tokens[0]), tokens, parents, scores, max(nodes, num_certain))


class _Grower:
    """Candidates in depth-first order, parents before children."""

    def __init__(self, tree: DraftTree, constraint: Constraint, depth: int) -> None:
        self._constraint, self._depth = constraint, min(depth, _MAX_DEPTH)
        self._drafted = tree.tokens.tolist()
        self._drafted_scores = tree.scores.tolist()
        self._children: dict[int | None, list[int]] = {}
        for row, parent in enumerate(tree.parents.tolist()[1:], start=1):
            self._children.setdefault(parent, []).append(row)
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.scores: list[float] = []

    def visit(self, row: int | None, node: int, depth: int, score: float, forced: Sequence[int]) -> None:
        """Add the candidates below a node.

        Args:
            row: Row of the node in the drafted tree; None for a forced token that was not drafted.
            node: Its number among the candidates; -1 for the root.
            depth: Its depth.
            score: Its score.
            forced: Forced tokens after the node.
        """
        if depth >= self._depth:
            return
        rows: dict[int, int | None] = dict.fromkeys(forced[:1])
        rows |= {self._drafted[child]: child for child in self._children.get(row, ())}
        for token, child in rows.items():
            if not self._constraint.allows(token):
                continue
            rest: Sequence[int] = ()
            child_score = score
            if forced and token == forced[0]:
                rest = forced[1:]
            elif child is not None and row is not None:
                child_score += self._drafted_scores[child] - self._drafted_scores[row]
            self.tokens.append(token)
            self.parents.append(node)
            self.scores.append(child_score)
            number = len(self.tokens) - 1
            self._constraint.advance(token)
            self.visit(child, number, depth + 1, child_score, rest or self._constraint.forced())
            self._constraint.rollback(1)
