"""Packing many draft trees of one text into single target passes.

The text's keys and values are computed once. Each node of a tree after the first t tokens attends to the text rows
below t and to its own ancestors, as if each tree were verified alone after those t tokens.

Source: tree attention of `Target.verify`; packing the trees of a whole group is ours.

Shapes: N nodes of one tree, P nodes of a pack, L text rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.draft.tree import DraftTree

# enough rows for full speed; more rows waste attention between trees, which is masked
PACK_NODES = {"cpu": 256, "cuda": 2048}


@dataclass(frozen=True)
class Pack:
    """Trees as one sequence of new tokens."""

    tokens: Tensor  # [P]
    positions: Tensor  # [P]
    parents: Tensor  # [P] row in the pack; a root is its own parent
    seen: Tensor  # [P, L + P] True = visible


def pack_trees(trees: Sequence[DraftTree], prefixes: Sequence[int], num_rows: int, device: torch.device) -> Pack:
    """Concatenate trees to one sequence.

    Args:
        trees: Trees, each with the root first.
        prefixes: Number of text tokens before each root.
        num_rows: Text rows in the cache.
        device: Device of the target.
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
    """Return the maximum number of nodes per pack; a single larger tree forms a pack of its own."""
    return PACK_NODES.get(device.type, PACK_NODES["cpu"])


def packs(trees: Sequence[DraftTree], nodes: int) -> Iterator[slice]:
    """Yield slices of trees with at most this number of nodes (a single larger tree may exceed it)."""
    begin, size = 0, 0
    for number, tree in enumerate(trees):
        if number > begin and size + tree.size > nodes:
            yield slice(begin, number)
            begin, size = number, 0
        size += tree.size
    if trees:
        yield slice(begin, len(trees))


def room(largest_tree: int, device: torch.device) -> int:
    """Return the number of cache rows that `Target.score_trees` writes after the text."""
    return max(pack_nodes(device), largest_tree)
