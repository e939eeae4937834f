"""Rewards of draft trees, computed from the target's probabilities of their nodes without sampling.

With p(v) the target's probability of node v's token after the path to its parent:

    P(v) = product of p over the path root -> v            probability that the target would emit this path
    L_i  = sum of P over the nodes of branch i             expected accepted length of a root-to-leaf branch
    lse   r = log(sum_i exp(eta L_i)) / eta                GTO, smooth max: max L_i <= r <= max L_i + log N / eta
    exact r = sum of P(v) over all draft nodes v           expected accepted draft tokens: accept_len - 1
    max   r = max_i L_i
    mean  r = mean_i L_i

`exact` matches verification (`verify.accept` at the same temperature accepts a node if and only if the target emits its
path), so it counts a prefix shared by branches once; the published `lse` counts it in every branch.

Source: GTO, arXiv 2509.22134, for lse, max and mean. Differs from the paper: `exact` is ours, and nodes below an
end-of-text token have probability 0, because decoding stops there.

Shapes: N nodes with the root, parents before children.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from torch import Tensor

from edgeai.spec.draft.tree import Array, DraftTree

RewardKind = Literal["lse", "exact", "max", "mean"]


def path_probs(tree: DraftTree, log_probs: Tensor, eos_ids: Collection[int] = ()) -> Array:
    """Compute the probability that the target emits the path to each node.

    Args:
        tree: Draft tree.
        log_probs: The target's log probability of each node's token given the path to its parent; the root's is
            ignored [N].
        eos_ids: End-of-text tokens.

    Returns:
        P [N] float64; 1 for the root.
    """
    parents, depths = tree.parents.numpy(), tree.depths.numpy()
    own = np.exp(log_probs.double().numpy())
    if eos_ids:
        own[np.isin(tree.tokens.numpy()[parents], list(eos_ids))] = 0.0
    probs = np.ones(tree.size)
    for depth in range(1, int(depths.max()) + 1):
        level = depths == depth
        probs[level] = probs[parents[level]] * own[level]
    return probs


def expected_accepted(probs: Array) -> float:
    """Return the expected accepted draft tokens (`exact`) of a tree with these path probabilities [N]."""
    return float(probs[1:].sum())


def tree_reward(tree: DraftTree, probs: Array, kind: RewardKind, *, eta: float = 1.0) -> float:
    """Return the reward of a tree.

    Args:
        tree: Draft tree; its leaves are the branches of lse, max and mean.
        probs: Path probabilities from `path_probs` [N].
        kind: Kind of reward.
        eta: Sharpness of lse; large values approach max.
    """
    if kind == "exact":
        return expected_accepted(probs)
    lengths = tree.ancestors.numpy().astype(np.float64) @ probs - 1.0  # [N]; without the root's own probability 1
    is_leaf = np.ones(tree.size, dtype=bool)
    is_leaf[tree.parents.numpy()[1:]] = False
    branches = lengths[is_leaf]
    best = float(branches.max())
    if kind == "max":
        return best
    if kind == "mean":
        return float(branches.mean())
    return best + float(np.log(np.exp(eta * (branches - best)).sum())) / eta
