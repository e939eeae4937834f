"""Group Tree Optimization: raise the probability of accepted paths in trees that do better than their group.

For a group of m adjacent places i with trees T_i of the current head M and reference trees T0_i of the frozen head M0:

    R_i = r(T_i) - r(T0_i)                                   debiased reward
    A_i = (R_i - mean R) / (std R + delta)                   advantage; std over the group, population
    s_i = exp((log M(S_i) - log M0(S_i)) / max(|S_i|, 1))    geometric-mean ratio along the longest accepted path S_i
    L   = -mean_i min(s_i A_i, clip(s_i, 1 - eps, 1 + eps) A_i)

Gradients flow through log M(S_i) alone, unrolled over the head's own outputs as in decoding.

Source: GTO, arXiv 2509.22134. Its text leaves open, and here it is: std is the population's; flat groups are skipped,
counting as zero in the mean over groups; S_i is walked along the target's first choices at any temperature.

Shapes: K groups, m places of a group, B sequences, Q places of a sequence, S steps of the longest path, N nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.spec.data.answers import Conversation
from edgeai.spec.decoding.verify import accept_choices
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.tree import Array, DraftTree
from edgeai.spec.training.losses import StepSums, TrainBatch, TrainingTimeTest
from edgeai.spec.training.unroll import Unroll


def places(conversation: Conversation, max_root: int) -> list[range]:
    """Roots of decoding in each answer: its tokens but the last, after which nothing follows.

    Args:
        conversation: Text with the target's answers.
        max_root: Last position where a whole tree still fits the target's positions.
    """
    # a root at 0 has no feature before it
    return [range(max(begin, 1), min(end - 1, max_root + 1)) for begin, end in conversation.answers]


def sample_groups(runs: Sequence[range], num_groups: int, size: int, rng: np.random.Generator) -> list[int]:
    """First places of groups that do not overlap, ascending; fewer than asked for where there is no room.

    Groups fall on the runs by chance and, within a run, every arrangement is equally likely.

    Args:
        runs: Places that may be used.
        num_groups: Groups K.
        size: Places m of a group.
        rng: Decides.
    """
    slots = np.repeat(np.arange(len(runs)), [len(run) // size for run in runs])
    chosen = rng.permutation(slots)[:num_groups]
    starts: list[int] = []
    for number, run in enumerate(runs):
        count = int((chosen == number).sum())
        # groups shrunk to one place each may stand anywhere
        shrunk = np.sort(rng.choice(max(len(run) - count * (size - 1), 1), count, replace=False))
        starts += [run.start + int(place) + index * (size - 1) for index, place in enumerate(shrunk)]
    return starts


def advantages(rewards: Array, *, delta: float, flat_std: float) -> tuple[Array, Array, Array]:
    """Standardise debiased rewards within groups.

    Args:
        rewards: R [K, m].
        delta: Added to the standard deviation.
        flat_std: Groups that spread no more than this are not active.

    Returns:
        A [K, m], zero in groups that are not active; which groups are active [K]; standard deviations [K].
    """
    std = rewards.std(axis=1)
    active = std > flat_std
    standard = (rewards - rewards.mean(axis=1, keepdims=True)) / (std[:, None] + delta)
    return np.where(active[:, None], standard, 0.0), active, std


def longest_accepted(tree: DraftTree, best: Tensor, eos_ids: Collection[int] = ()) -> list[int]:
    """Draft tokens that greedy verification accepts: S.

    Args:
        tree: The draft.
        best: The target's choice after each node [N].
        eos_ids: Nothing is accepted after one of these.
    """
    accepted = accept_choices(tree, best.tolist().__getitem__, eos_ids=eos_ids)
    return list(accepted.tokens[: accepted.num_accepted])


@dataclass(frozen=True)
class Paths:
    """Accepted paths of the active groups of a batch, padded."""

    queries: Tensor  # [B, Q] place of the root less one: the pair that holds it
    tokens: Tensor  # [B, Q, S] of the draft vocabulary, as target ids
    lengths: Tensor  # [B, Q] accepted draft tokens
    advantages: Tensor  # [B, Q] float32, 0 for padding

    @classmethod
    def of(cls, rows: Sequence[Sequence[tuple[int, Sequence[int], float]]], device: torch.device) -> Paths:
        """From (root, accepted tokens, advantage) of each place of each sequence."""
        width = max([1, *(len(row) for row in rows)])
        depth = max([1, *(len(tokens) for row in rows for _, tokens, _ in row)])
        queries, lengths = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
        path_tokens = torch.zeros(len(rows), width, depth, dtype=torch.long)
        weights = torch.zeros(len(rows), width)
        for b, row in enumerate(rows):
            for q, (root, tokens, advantage) in enumerate(row):
                queries[b, q], lengths[b, q], weights[b, q] = root - 1, len(tokens), advantage
                path_tokens[b, q, : len(tokens)] = torch.tensor(tokens)
        return cls(*(tensor.to(device) for tensor in (queries, path_tokens, lengths, weights)))


def path_log_probs(unroll: Unroll, head: DraftHead, batch: TrainBatch, paths: Paths) -> Tensor:
    """Log probability that the head gives to each whole path [B, Q]; 0 for empty ones."""
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


def surrogate(ratio: Tensor, advantage: Tensor, epsilon: float) -> Tensor:
    """Clipped surrogate -min(s A, clip(s, 1 - epsilon, 1 + epsilon) A), element by element."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


@dataclass(frozen=True)
class PathSums:
    """Sums over the paths of a batch; ratio and clipped over those that are not empty."""

    loss: Tensor  # [] surrogate
    ratio: Tensor  # []
    clipped: Tensor  # [] paths whose ratio left the interval on the side that its advantage asks for: no gradient
    count: Tensor  # []


class GroupTreeObjective(nn.Module):
    """Token loss plus the clipped surrogate of accepted paths.

    Args:
        token_loss: The training-time test of the current head.
        epsilon: Half width of the ratio's interval.
    """

    def __init__(self, token_loss: TrainingTimeTest, *, epsilon: float) -> None:
        super().__init__()
        self.token_loss = token_loss
        self.epsilon = epsilon
        self._reference: tuple[Unroll, DraftHead] | None = None  # no submodule: it is not trained

    def refer_to(self, reference: DraftHead, unroll: Unroll) -> None:
        """Set the frozen head M0 and the function that unrolls it."""
        self._reference = unroll, reference

    def forward(
        self, batch: TrainBatch, num_steps: int, step_scale: Tensor, paths: Paths | None, path_scale: float
    ) -> tuple[Tensor, StepSums, PathSums]:
        """Loss of a batch.

        Args:
            batch: Sequences.
            num_steps: Draft steps of the token loss.
            step_scale: See `TrainingTimeTest`.
            paths: Of the same sequences; None where no group is active.
            path_scale: Factor of the summed surrogate.

        Returns:
            The loss to minimise [] and sums for logging.
        """
        loss, sums = self.token_loss(batch, num_steps, step_scale)
        zero = torch.zeros((), device=batch.ids.device)
        if paths is None:
            return loss, sums, PathSums(zero, zero, zero, zero)
        assert self._reference is not None
        ours = path_log_probs(self.token_loss.unroll, self.token_loss.head, batch, paths)
        with torch.no_grad():
            theirs = path_log_probs(*self._reference, batch, paths)
        ratio = ((ours - theirs) / paths.lengths.clamp_min(1)).exp()
        terms = surrogate(ratio, paths.advantages, self.epsilon)
        full = paths.lengths > 0
        with torch.no_grad():
            outside = torch.where(paths.advantages > 0, ratio > 1 + self.epsilon, ratio < 1 - self.epsilon)
            clipped = (outside & full & (paths.advantages != 0)).sum().float()
            stats = PathSums(terms.sum(), ratio[full].sum(), clipped, full.sum().float())
        return loss + terms.sum() * path_scale, sums, stats
