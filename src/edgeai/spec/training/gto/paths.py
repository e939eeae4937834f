"""Accepted paths of draft trees, and the log probability that a head assigns to them.

Source: GTO, arXiv 2509.22134. The paper does not specify the following: the path follows the target's greedy choices
at any temperature.

Shapes: B sequences, Q positions of a sequence, S steps of the longest path, N nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.data.train_batch import TrainBatch
from edgeai.spec.decoding.verify import accept_choices
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.training.unroll import Unroll


def longest_accepted(tree: DraftTree, best: Tensor, eos_ids: Collection[int] = ()) -> tuple[int, ...]:
    """Return the draft tokens that greedy verification accepts: S.

    Args:
        tree: Draft tree.
        best: The target's greedy choice after each node [N].
        eos_ids: End-of-text tokens; nothing is accepted after one of them.
    """
    accepted = accept_choices(tree, best.tolist().__getitem__, eos_ids=eos_ids)
    return accepted.tokens[: accepted.num_accepted]


@dataclass(frozen=True)
class AcceptedPath:
    """The accepted path of one tree and its weight in the loss."""

    root: int
    """Position of the tree's root in the text."""
    tokens: Sequence[int]
    """Accepted draft tokens."""
    advantage: float


@dataclass(frozen=True)
class Paths:
    """Accepted paths of the active groups of a batch, padded."""

    queries: Tensor  # [B, Q] position of the root minus one: the input pair that holds the root
    tokens: Tensor  # [B, Q, S] of the draft vocabulary, as target ids
    lengths: Tensor  # [B, Q] accepted draft tokens
    advantages: Tensor  # [B, Q] float32, 0 for padding

    @classmethod
    def of(cls, rows: Sequence[Sequence[AcceptedPath]], device: torch.device) -> Paths:
        """Pad the paths of each sequence of a batch."""
        width = max([1, *(len(row) for row in rows)])
        depth = max([1, *(len(path.tokens) for row in rows for path in row)])
        queries, lengths = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
        tokens = torch.zeros(len(rows), width, depth, dtype=torch.long)
        advantages = torch.zeros(len(rows), width)
        for b, row in enumerate(rows):
            for q, path in enumerate(row):
                queries[b, q], lengths[b, q], advantages[b, q] = path.root - 1, len(path.tokens), path.advantage
                tokens[b, q, : len(path.tokens)] = torch.tensor(path.tokens)
        return cls(*(tensor.to(device) for tensor in (queries, tokens, lengths, advantages)))


def path_log_probs(unroll: Unroll, head: DraftHead, batch: TrainBatch, paths: Paths) -> Tensor:
    """Return the head's log probability of each whole path [B, Q]; 0 for empty paths."""
    drafted = torch.searchsorted(head.draft_to_target, paths.tokens)  # [B, Q, S]
    total = torch.zeros(paths.lengths.shape, device=batch.ids.device)
    states = unroll(batch.ids, batch.features, paths.queries, paths.tokens[..., :-1])
    weight = head.lm_head.weight.to(states[0].dtype)
    for step, normed in enumerate(states):
        place = (step < paths.lengths).nonzero(as_tuple=True)
        logits = F.linear(normed[place], weight).float()
        log_probs = logits.log_softmax(-1).gather(-1, drafted[..., step][place][:, None])[:, 0]
        total = total.index_put(place, log_probs, accumulate=True)
    return total
