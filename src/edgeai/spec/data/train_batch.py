"""Training batches: which positions count in the loss, and packing conversations into padded batches.

Shapes: B sequences, T positions, Q queries (positions that count) of a sequence, H hidden, S draft steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.data.conversation import Conversation


@dataclass(frozen=True)
class TrainBatch:
    """Right-padded sequences with the outputs of the target."""

    ids: Tensor  # [B, T]
    features: Tensor  # [B, T, 3 H]
    hidden: Tensor  # [B, T, H], the target's final states; its logits are lm_head(hidden)
    best: Tensor  # [B, T] the target's argmax after each position
    queries: Tensor  # [B, Q] positions t whose drafts count, padded with 0
    query_ends: Tensor  # [B, Q] end of the query's answer, 0 for padding


def pack(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Split sequences into batches of at most `batch_tokens` padded tokens (a single longer sequence may exceed it)."""
    batches: list[list[int]] = []
    widest = 0
    for number, length in enumerate(lengths):
        widest = max(widest, length)
        if not batches or widest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            widest = length
        batches[-1].append(number)
    return batches


def pack_in_order(conversations: Sequence[Conversation], order: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Pack conversations in a given order; returns their numbers. See `pack`."""
    batches = pack([len(conversations[n].ids) for n in order], batch_tokens)
    return [[order[n] for n in batch] for batch in batches]


def pad_ids(conversations: Sequence[Conversation]) -> Tensor:
    """Return the right-padded token ids of conversations [B, T]."""
    longest = max(len(c.ids) for c in conversations)
    ids = torch.zeros(len(conversations), longest, dtype=torch.long)
    for row, conversation in enumerate(conversations):
        ids[row, : len(conversation.ids)] = torch.tensor(conversation.ids)
    return ids


def query_positions(conversation: Conversation) -> list[tuple[int, int]]:
    """Return (t, end of its answer) for every t that counts at draft step 0: x[t+1] and x[t+2] are in the same
    answer.
    """
    return [(t, end) for begin, end in conversation.answers for t in range(max(begin - 1, 0), end - 2)]


def queries_of(conversations: Sequence[Conversation], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the padded `queries` and `query_ends` of a `TrainBatch`, each [B, Q]."""
    rows = [query_positions(c) for c in conversations]
    width = max([1, *(len(row) for row in rows)])
    padded = torch.zeros(2, len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        if row:
            padded[:, number, : len(row)] = torch.tensor(row).t()
    return padded[0].to(device), padded[1].to(device)


def step_counts(conversations: Sequence[Conversation], num_steps: int) -> Tensor:
    """Return the number of rows that count at each draft step, from the text alone [S]."""
    lengths = torch.tensor([end - begin for c in conversations for begin, end in c.answers])
    # an answer at the start of the sequence has no position before it
    first = torch.tensor([begin > 0 for c in conversations for begin, _ in c.answers])
    return torch.stack([(lengths - 2 - step + first.long()).clamp_min(0).sum() for step in range(num_steps)]).float()
