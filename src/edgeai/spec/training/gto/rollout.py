"""Rollouts of GTO: draft trees of the current and the reference head, their rewards and accepted paths.

Each text needs one target pass, whose keys and values are kept. All reference trees of the text are scored in packed
passes against them; of the current trees only the nodes that the reference trees lack are scored. Equal trees therefore
have bit-identical rewards, and a head that has changed little needs little scoring.

Source: GTO, arXiv 2509.22134. The savings are ours.

Shapes: P trees of a text, N nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeai.spec.config.train import GtoConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.draft.eagle3 import HeadLayer
from edgeai.spec.draft.eagle3_batched import propose_along
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.head_checks import check_fit
from edgeai.spec.draft.tree import Array, DraftTree
from edgeai.spec.target.protocol import Cache, Target
from edgeai.spec.target.tree_scoring import room
from edgeai.spec.training.gto.groups import Advantages, advantages, all_root_ranges, group_positions, sample_groups
from edgeai.spec.training.gto.paths import AcceptedPath, Paths, longest_accepted
from edgeai.spec.training.gto.rewards import expected_accepted, path_probs, tree_reward
from edgeai.spec.training.gto.rollout_sums import RolloutSums
from edgeai.spec.training.gto.scored_trees import ScoredTrees, score_difference


@dataclass(frozen=True)
class Rollout:
    """Rollout of a batch."""

    paths: Paths | None
    """Accepted paths of the active groups; None if no group is active."""
    sums: RolloutSums


@dataclass(frozen=True)
class TreeValues:
    """Value of each tree of a text."""

    table: Array  # [P, 3]: reward, expected accepted draft tokens, draft tokens accepted at temperature 0

    @property
    def rewards(self) -> Array:
        """Reward of each tree [P]."""
        return self.table[:, 0]


class Rollouts:
    """Drafts and rewards the trees of training texts.

    Args:
        config: Groups, tree and reward.
        target: Target that scores the trees.
        conversations: Training texts.
        reference: Frozen reference head M0.
        seed: Seed of the group positions.

    Raises:
        EdgeAIError: The head's shape does not match the target.
    """

    def __init__(
        self,
        config: GtoConfig,
        target: Target,
        conversations: Sequence[Conversation],
        *,
        reference: DraftHead,
        seed: int,
    ) -> None:
        check_fit(reference, target)
        self._target = target.with_aux_layers(reference.shape.aux_layers)
        self._config, self._conversations, self._seed = config, conversations, seed
        self._reference = HeadLayer(reference, target)
        self._kept: dict[int, ScoredTrees] = {}
        self._ranges = all_root_ranges(config, target, conversations)

    def starts(self, number: int, epoch: int) -> list[int]:
        """Return the first positions of a text's groups; none if the text is not sampled (`text_frac`)."""
        cfg = self._config
        rng = np.random.default_rng((self._seed, 3, epoch if cfg.starts == "fresh" else 0, number))
        if rng.random() >= cfg.text_frac:
            return []
        return sample_groups(self._ranges[number], cfg.groups, cfg.group_size, rng)

    def play(self, head: DraftHead, numbers: Sequence[int], epoch: int) -> Rollout:
        """Roll out the groups of a batch.

        Args:
            head: Current head M.
            numbers: Texts of the batch, in its order.
            epoch: Epoch, which selects the groups if starts are fresh.
        """
        layer = HeadLayer(head, self._target)
        rows, sums = [], RolloutSums()
        for number in numbers:
            paths, part = self._play_text(layer, number, self.starts(number, epoch))
            rows.append(paths)
            sums += part
        return Rollout(Paths.of(rows, self._target.device) if any(rows) else None, sums)

    def _play_text(
        self, layer: HeadLayer, number: int, starts: Sequence[int]
    ) -> tuple[list[AcceptedPath], RolloutSums]:
        """Roll out the groups of one text."""
        if not starts:
            return [], RolloutSums()
        cfg, target = self._config, self._target
        roots = group_positions(starts, cfg.group_size)
        ids = self._conversations[number].ids
        cache = target.new_cache(roots[-1] + room(cfg.tree.nodes + 1, target.device))
        features = target.prefill(ids[: roots[-1]], cache).features
        old = self._kept.get(number)
        if old is None:
            trees = propose_along(self._reference, target, ids, features, roots, cfg.tree)
            old = self._score(trees, roots, cache)
            if cfg.starts == "fixed":
                self._kept[number] = old
        trees = propose_along(layer, target, ids, features, roots, cfg.tree)
        new = score_difference(trees, old, roots, target=target, cache=cache, temperature=cfg.temperature)
        ours, theirs = self._values(new), self._values(old)
        debiased = (ours.rewards - theirs.rewards).reshape(-1, cfg.group_size)
        weights = advantages(debiased, delta=cfg.delta, flat_std=cfg.flat_std)
        return self._paths(new, roots, weights), _sums(ours, theirs, weights, new.num_scored)

    def _score(self, trees: list[DraftTree], roots: Sequence[int], cache: Cache) -> ScoredTrees:
        scores = self._target.score_trees(trees, roots, cache, temperature=self._config.temperature)
        return ScoredTrees(trees, scores, sum(tree.size for tree in trees))

    def _paths(self, scored: ScoredTrees, roots: Sequence[int], weights: Advantages) -> list[AcceptedPath]:
        """Return the accepted paths of the trees in active groups."""
        eos_ids = self._target.tokenizer.eos_ids
        is_active = np.repeat(weights.is_active, self._config.group_size)
        return [
            AcceptedPath(roots[i], longest_accepted(scored.trees[i], scored.scores[i].best, eos_ids), float(advantage))
            for i, advantage in enumerate(weights.values.flat)
            if is_active[i]
        ]

    def _values(self, scored: ScoredTrees) -> TreeValues:
        cfg, eos_ids = self._config, self._target.tokenizer.eos_ids
        rows = []
        for tree, scores in zip(scored.trees, scored.scores, strict=True):
            probs = path_probs(tree, scores.log_probs, eos_ids)
            reward = tree_reward(tree, probs, cfg.reward, eta=cfg.eta)
            rows.append((reward, expected_accepted(probs), len(longest_accepted(tree, scores.best, eos_ids))))
        return TreeValues(np.array(rows))


def _sums(ours: TreeValues, theirs: TreeValues, weights: Advantages, num_new: int) -> RolloutSums:
    reward, exact, greedy = ours.table.sum(0).tolist()
    reward_ref, exact_ref, greedy_ref = theirs.table.sum(0).tolist()
    return RolloutSums(
        groups=len(weights.is_active),
        active=float(weights.is_active.sum()),
        spread=float(weights.stds.sum()),
        places=len(ours.table),
        reward=reward,
        reward_ref=reward_ref,
        exact=exact,
        exact_ref=exact_ref,
        greedy=greedy,
        greedy_ref=greedy_ref,
        new_nodes=num_new,
    )
