"""The dynamic draft tree of EAGLE-2: grown level by level, for one text position or for many at once.

Source: EAGLE-2, arXiv 2406.16858, section 4 (expansion by cumulative confidence, then re-ranking).

Shapes: G positions, W nodes of one level, C columns of tree keys so far, H hidden, D draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import Array, DraftTree, rerank

Expand = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Run the head for one level: from tokens [G, W], the parents' outputs [G, W, H] and the mask of visible tree columns,
the node itself last [G, W, C], to outputs [G, W, H] and log probabilities [G, W, D]."""


def grow(
    roots: Sequence[int],
    hidden: Tensor,
    log_probs: Tensor,
    expand: Expand,
    *,
    draft_to_target: Tensor,
    tree: TreeConfig,
) -> list[DraftTree]:
    """Grow the dynamic tree below each root.

    Args:
        roots: Newest token at each position [G].
        hidden: The head's outputs at the roots [G, H].
        log_probs: The head's log probabilities at the roots [G, D].
        expand: Function that runs the head for one level.
        draft_to_target: Target ids of the draft vocabulary [D].
        tree: Depth, width and size of the trees.
    """
    width = min(tree.top_k, draft_to_target.shape[0])
    best = log_probs.topk(width)
    scores, tokens = best.values, draft_to_target[best.indices]  # [G, W]
    pool = _Pool(scores, tokens)
    hidden = hidden[:, None].expand(-1, width, -1)
    identity = torch.eye(width, dtype=torch.bool, device=hidden.device).expand(len(roots), -1, -1)
    ancestors = identity
    for _ in range(1, tree.depth):
        hidden, log_probs = expand(tokens, hidden, ancestors)
        best = log_probs.topk(width)
        candidates = (best.values + scores[..., None]).flatten(1)  # [G, W * W]
        targets = draft_to_target[best.indices.flatten(1)]
        scores, picked = candidates.topk(width)
        pool.add(candidates, targets, picked)
        slots = (picked // width)[..., None]  # [G, W, 1]
        tokens = targets.gather(1, picked)
        hidden = hidden.take_along_dim(slots, 1)
        ancestors = torch.cat([ancestors.take_along_dim(slots, 1), identity], 2)
    return pool.rerank(roots, tree.nodes)


class _Pool:
    """All candidates below each root, in order of creation."""

    def __init__(self, scores: Tensor, tokens: Tensor) -> None:
        self._width = scores.shape[1]
        self._scores, self._tokens = [scores], [tokens]
        self._frontiers: list[Tensor] = []  # candidates expanded at each level, as indices within the level

    def add(self, scores: Tensor, tokens: Tensor, frontier: Tensor) -> None:
        """Add the children of the last frontier [G, W * W] and the indices of those expanded next [G, W]."""
        self._scores.append(scores)
        self._tokens.append(tokens)
        self._frontiers.append(frontier)

    def rerank(self, roots: Sequence[int], nodes: int) -> list[DraftTree]:
        """Return the best candidates of each position as a tree."""
        scores = torch.cat(self._scores, 1).cpu().numpy()
        tokens = torch.cat(self._tokens, 1).cpu().numpy()
        frontiers = [frontier.cpu().numpy() for frontier in self._frontiers]
        return [
            rerank(root, tokens[place], self._parents([f[place] for f in frontiers]), scores[place], nodes)
            for place, root in enumerate(roots)
        ]

    def _parents(self, frontiers: Sequence[Array]) -> Array:
        """Return the parent candidate of each candidate of one position, -1 for the root."""
        width = self._width
        parents = [np.full(width, -1, dtype=np.int64)]
        begin, frontier = 0, np.arange(width)
        for level, following in enumerate(frontiers):
            parents.append(np.repeat(begin + frontier, width))
            begin += width if level == 0 else width * width
            frontier = following
        return np.concatenate(parents)
