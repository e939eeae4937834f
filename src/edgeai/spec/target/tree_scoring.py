"""Many draft trees behind prefixes of one text, laid side by side for one pass of the target.

The text's keys and values are computed once. A tree behind the first t tokens sees rows below t, and of the tree rows
its own ancestors only, as if each tree were verified alone right after those t tokens.

Source: tree attention of `Target.verify`; packing it for the trees of a whole group is ours.

Shapes: N nodes of one tree, P nodes of a pack, L text rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.draft.tree import DraftTree

# enough rows for full speed; the fewer, the less attention between trees is computed only to be masked
PACK_NODES = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True)
class Pack:
    """Trees as one sequence of new tokens."""

    tokens: Tensor  # [P]
    positions: Tensor  # [P]
    parents: Tensor  # [P] row in the pack; a root is its own
    seen: Tensor  # [P, L + P] True = see


def pack_trees(trees: Sequence[DraftTree], prefixes: Sequence[int], num_rows: int, device: torch.device) -> Pack:
    """Lay trees side by side.

    Args:
        trees: Roots first.
        prefixes: Text tokens in front of each root.
        num_rows: Text rows in the cache.
        device: Where the target is.
    """
    sizes = torch.tensor([tree.size for tree in trees])
    begins = sizes.cumsum(0) - sizes
    behind = torch.tensor(prefixes).repeat_interleave(sizes)  # [P]
    parents = torch.cat([tree.parents.clamp_min(0) for tree in trees]) + begins.repeat_interleave(sizes)
    among = torch.block_diag(*(tree.ancestors for tree in trees)).bool()
    text = torch.arange(num_rows) < behind[:, None]
    return Pack(
        tokens=torch.cat([tree.tokens for tree in trees]).to(device),
        positions=(behind + torch.cat([tree.depths for tree in trees])).to(device),
        parents=parents.to(device),
        seen=torch.cat([text, among], 1).to(device),
    )


def pack_nodes(device: torch.device) -> int:
    """Most nodes of a pack, unless a single tree has more."""
    return PACK_NODES.get(device.type, PACK_NODES["cpu"])


def packs(trees: Sequence[DraftTree], nodes: int) -> Iterator[slice]:
    """Cut a run of trees into packs of at most this many nodes (one tree may exceed it)."""
    begin, size = 0, 0
    for number, tree in enumerate(trees):
        if number > begin and size + tree.size > nodes:
            yield slice(begin, number)
            begin, size = number, 0
        size += tree.size
    if trees:
        yield slice(begin, len(trees))


def room(largest_tree: int, device: torch.device) -> int:
    """Cache rows that `Target.score_trees` writes behind the text."""
    return max(pack_nodes(device), largest_tree)
