"""Draft trees scored by the target, reusing the scores of similar trees.

Shapes: N nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.draft.tree import DraftTree, build_tree
from edgeai.spec.target.protocol import Cache, Target, TreeScores


@dataclass(frozen=True)
class ScoredTrees:
    """Trees of one text with the target's scores."""

    trees: list[DraftTree]
    scores: list[TreeScores]
    num_scored: int
    """Nodes that went through the target for them."""


@dataclass(frozen=True)
class _Subtree:
    """Part of a tree that contains the ancestors of its nodes."""

    tree: DraftTree
    is_kept: Tensor  # [N] bool, nodes of the whole tree


def score_difference(
    trees: list[DraftTree],
    old: ScoredTrees,
    roots: Sequence[int],
    *,
    target: Target,
    cache: Cache,
    temperature: float,
) -> ScoredTrees:
    """Score trees, reusing the scores of all paths that other trees at the same roots contain.

    Args:
        trees: Trees to score.
        old: Scored trees at the same roots.
        roots: Position of each root in the text.
        target: Target that scores.
        cache: Cache that holds the text.
        temperature: Temperature of the log probabilities.
    """
    known = [same_paths(tree, other) for tree, other in zip(trees, old.trees, strict=True)]
    missing = [i for i, rows in enumerate(known) if (rows < 0).any()]
    parts = [_smallest_subtree(trees[i], known[i] < 0) for i in missing]
    found = target.score_trees(
        [part.tree for part in parts], [roots[i] for i in missing], cache, temperature=temperature
    )
    scores = [
        TreeScores(s.log_probs[rows.clamp_min(0)], s.best[rows.clamp_min(0)])
        for s, rows in zip(old.scores, known, strict=True)
    ]
    for i, part, scored in zip(missing, parts, found, strict=True):
        is_new = (known[i] < 0)[part.is_kept]
        rows = part.is_kept.nonzero()[:, 0][is_new]
        scores[i].log_probs[rows] = scored.log_probs[is_new]
        scores[i].best[rows] = scored.best[is_new]
    return ScoredTrees(trees, scores, sum(part.tree.size for part in parts))


def same_paths(tree: DraftTree, other: DraftTree) -> Tensor:
    """Return for each node of a tree the node of another with the same path from the same root, or -1 [N]."""
    children, rows = other.children(), [0]
    for parent, token in zip(tree.parents.tolist()[1:], tree.tokens.tolist()[1:], strict=True):
        rows.append(children.get((rows[parent], token), -1))
    return torch.tensor(rows)


def _smallest_subtree(tree: DraftTree, wanted: Tensor) -> _Subtree:
    """Return the smallest part of a tree that contains the wanted nodes [N] and their ancestors."""
    is_kept = tree.ancestors[wanted].any(0)
    new_rows = is_kept.cumsum(0) - 1
    parents = [-1, *new_rows[tree.parents[is_kept][1:]].tolist()]
    return _Subtree(build_tree(tree.tokens[is_kept].tolist(), parents, tree.scores[is_kept].numpy()), is_kept)
