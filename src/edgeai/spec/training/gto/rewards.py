"""How good a draft tree is, told by the target's probabilities of its nodes: nothing is sampled.

With p(v) the target's probability of node v's token after the path to its parent:

    P(v) = product of p over the path root -> v            probability that the target would emit this path
    L_i  = sum of P over the nodes of branch i             expected accepted length of a root-to-leaf branch
    lse   r = log(sum_i exp(eta L_i)) / eta                GTO, smooth max: max L_i <= r <= max L_i + log N / eta
    exact r = sum of P(v) over all draft nodes v           expected accepted draft tokens: accept_len - 1
    max   r = max_i L_i
    mean  r = mean_i L_i

`exact` is what verification does (`verify.accept` at the same temperature accepts a node if and only if the target
would emit its path), so it counts a prefix that branches share once; the published `lse` counts it in every branch.

Source: GTO, arXiv 2509.22134, for lse, max and mean. Differs from the paper: `exact` is ours; and nothing
below an end-of-text token has a probability, because decoding stops there.

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
    """Probability that the target emits the path to each node.

    Args:
        tree: The draft.
        log_probs: The target's log probability of each node's token after the path to its parent; the root's is not
            read [N].
        eos_ids: Tokens that end the text.

    Returns:
        P [N] float64; the root's is 1.
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
    """`exact`: expected accepted draft tokens of a tree with these path probabilities [N]."""
    return float(probs[1:].sum())


def tree_reward(tree: DraftTree, probs: Array, kind: RewardKind, *, eta: float = 1.0) -> float:
    """The reward of a tree.

    Args:
        tree: The draft; its leaves are the branches of lse, max and mean.
        probs: `path_probs` [N].
        kind: Which reward.
        eta: Sharpness of lse: large values approach max.
    """
    if kind == "exact":
        return expected_accepted(probs)
    lengths = tree.ancestors.numpy().astype(np.float64) @ probs - 1.0  # [N]; the root's own 1 is no draft
    is_leaf = np.ones(tree.size, dtype=bool)
    is_leaf[tree.parents.numpy()[1:]] = False
    branches = lengths[is_leaf]
    best = float(branches.max())
    if kind == "max":
        return best
    if kind == "mean":
        return float(branches.mean())
    return best + float(np.log(np.exp(eta * (branches - best)).sum())) / eta
