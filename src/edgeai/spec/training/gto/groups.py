"""Groups of adjacent root positions in a text, and the advantages of their draft trees.

Source: GTO, arXiv 2509.22134. The paper does not specify the following: the standard deviation is the population's,
and flat groups are skipped.

Shapes: K groups, m positions of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.spec.config.train import GtoConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.draft.tree import Array
from edgeai.spec.target.protocol import Target


def root_ranges(conversation: Conversation, max_root: int) -> list[range]:
    """Return the possible tree roots in each answer: all its tokens but the last, after which nothing follows.

    Args:
        conversation: Text with the target's answers.
        max_root: Last position at which a whole tree still fits the target's positions.
    """
    # a root at 0 has no feature before it
    return [range(max(begin, 1), min(end - 1, max_root + 1)) for begin, end in conversation.answers]


def all_root_ranges(config: GtoConfig, target: Target, conversations: Sequence[Conversation]) -> list[list[range]]:
    """Return `root_ranges` of each text, such that a whole tree stays within the target's positions."""
    max_root = target.shape.max_positions - config.tree.depth - 1
    return [root_ranges(conversation, max_root) for conversation in conversations]


def check_room_for_groups(config: GtoConfig, target: Target, conversations: Sequence[Conversation]) -> None:
    """Check that at least one answer is long enough for a group.

    Raises:
        UsageError: No answer has as many positions as a group.
    """
    longest = max(len(run) for runs in all_root_ranges(config, target, conversations) for run in runs)
    if longest < config.group_size:
        raise UsageError(
            f"no answer has room for a group of {config.group_size} adjacent positions: the longest has {longest}",
            hint="lower gto.group_size or give longer answers",
        )


def sample_groups(ranges: Sequence[range], num_groups: int, size: int, rng: np.random.Generator) -> list[int]:
    """Sample groups that do not overlap and return their first positions, ascending; fewer if there is no room.

    Groups are assigned to the ranges at random; within a range every arrangement has the same probability.

    Args:
        ranges: Positions that may be used.
        num_groups: Number of groups K.
        size: Positions per group m.
        rng: Samples the group positions.
    """
    slots = np.repeat(np.arange(len(ranges)), [len(run) // size for run in ranges])
    chosen = rng.permutation(slots)[:num_groups]
    starts: list[int] = []
    for number, run in enumerate(ranges):
        count = int((chosen == number).sum())
        # sample with each group shrunk to one position, then expand them: this makes every arrangement equally likely
        shrunk = np.sort(rng.choice(max(len(run) - count * (size - 1), 1), count, replace=False))
        starts += [run.start + int(place) + index * (size - 1) for index, place in enumerate(shrunk)]
    return starts


def group_positions(starts: Sequence[int], size: int) -> list[int]:
    """Return all positions of groups of this size, group by group."""
    return [start + offset for start in starts for offset in range(size)]


@dataclass(frozen=True)
class Advantages:
    """Standardized rewards of some groups."""

    values: Array  # [K, m], 0 in groups that are not active
    is_active: Array  # [K] bool
    stds: Array  # [K]


def advantages(rewards: Array, *, delta: float, flat_std: float) -> Advantages:
    """Standardize debiased rewards within groups.

    Args:
        rewards: Debiased rewards R [K, m].
        delta: Number added to the standard deviation.
        flat_std: Largest standard deviation of a group that counts as flat, that is, not active.
    """
    stds = rewards.std(axis=1)
    is_active = stds > flat_std
    standard = (rewards - rewards.mean(axis=1, keepdims=True)) / (stds[:, None] + delta)
    return Advantages(np.where(is_active[:, None], standard, 0.0), is_active, stds)
