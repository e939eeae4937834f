"""What GTO needs to know of a batch: trees of the current and of the reference head, their rewards, accepted paths.

One target pass over each text, whose keys and values stay; all reference trees of the text are scored in packed passes
against them, and of the current trees only what the reference trees do not hold. So equal trees have equal rewards to
the bit, and a head that has hardly moved costs hardly any scoring.

Source: GTO, arXiv 2509.22134. The savings are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch

from edgeai.core.errors import UsageError
from edgeai.spec.config.train import GtoConfig
from edgeai.spec.data.answers import Conversation
from edgeai.spec.draft.eagle3 import HeadLayer, check_fit
from edgeai.spec.draft.eagle3_batched import propose_along
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.tree import DraftTree, build_tree
from edgeai.spec.target.kv_cache import KVCache
from edgeai.spec.target.protocol import Target, TreeScores
from edgeai.spec.target.tree_scoring import room
from edgeai.spec.training.distributed import Ranks
from edgeai.spec.training.gto.objective import Paths, PathSums, advantages, longest_accepted, places, sample_groups
from edgeai.spec.training.gto.rewards import expected_accepted, path_probs, tree_reward


@dataclass(frozen=True)
class RolloutSums:
    """Sums over the groups or the places of a batch."""

    groups: float = 0.0
    active: float = 0.0
    """Groups that were not flat."""
    spread: float = 0.0
    """Over groups: standard deviation of the debiased reward."""
    places: float = 0.0
    reward: float = 0.0
    reward_ref: float = 0.0
    exact: float = 0.0
    """Expected accepted draft tokens."""
    exact_ref: float = 0.0
    greedy: float = 0.0
    """Draft tokens accepted at temperature 0."""
    greedy_ref: float = 0.0
    new_nodes: float = 0.0
    """Nodes of the current trees that the reference trees do not hold, and their ancestors: scored on top of those."""

    def __add__(self, other: RolloutSums) -> RolloutSums:
        return RolloutSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def means(self) -> dict[str, float]:
        """For the log: means over groups and places; `_ref` is the reference head's."""
        groups, places = max(self.groups, 1.0), max(self.places, 1.0)
        return {
            "active_group_frac": self.active / groups,
            "advantage_spread": self.spread / groups,
            "reward": self.reward / places,
            "reward_ref": self.reward_ref / places,
            "reward_exact": self.exact / places,
            "reward_exact_ref": self.exact_ref / places,
            "greedy_accepted": self.greedy / places,
            "greedy_accepted_ref": self.greedy_ref / places,
            "new_nodes": self.new_nodes / places,
        }


def tree_means(played: RolloutSums, path_sums: Sequence[PathSums], ranks: Ranks) -> dict[str, float]:
    """`RolloutSums.means` over all ranks, and the surrogate's loss, mean ratio and share of clipped paths."""
    columns = [torch.stack([getattr(s, n) for s in path_sums]).sum() for n in ("loss", "ratio", "clipped", "count")]
    ours = torch.tensor(astuple(played), dtype=torch.float64, device=columns[0].device)
    *totals, loss, ratio, clipped, count = ranks.sum(torch.cat([ours, torch.stack(columns).double()])).tolist()
    played = RolloutSums(*totals)
    return {
        **played.means(),
        "loss_gto": loss / max(played.places, 1.0),
        "ratio": ratio / count if count else 1.0,
        "clip_frac": clipped / max(count, 1.0),
    }


@dataclass(frozen=True)
class ScoredTrees:
    """Trees of one text with what the target says about them."""

    trees: list[DraftTree]
    scores: list[TreeScores]


class Rollouts:
    """Builds and rewards the trees of training texts.

    Args:
        config: Groups, tree and reward.
        target: Scores the trees.
        conversations: The texts.
        reference: The frozen head M0.
        seed: Decides where groups start.

    Raises:
        EdgeAIError: The head's shape does not fit the target.
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
        self._reference = HeadLayer(reference, target.embedding)
        self._kept: dict[int, ScoredTrees] = {}
        self._places = _all_places(config, target, conversations)

    def starts(self, number: int, epoch: int) -> list[int]:
        """First places of the groups of a text; none if it is not among those whose trees are drafted."""
        cfg = self._config
        rng = np.random.default_rng((self._seed, 3, epoch if cfg.starts == "fresh" else 0, number))
        if rng.random() >= cfg.text_frac:
            return []
        return sample_groups(self._places[number], cfg.groups, cfg.group_size, rng)

    def play(self, head: DraftHead, numbers: Sequence[int], epoch: int) -> tuple[Paths | None, RolloutSums]:
        """Accepted paths and advantages of the active groups of a batch; None if there are none.

        Args:
            head: The current head M.
            numbers: Texts of the batch, in its order.
            epoch: Decides the groups where starts are fresh.
        """
        layer = HeadLayer(head, self._target.embedding)
        rows, sums = [], RolloutSums()
        for number in numbers:
            row, part = self._play_text(layer, number, self.starts(number, epoch))
            rows.append(row)
            sums += part
        return (Paths.of(rows, self._target.device) if any(rows) else None), sums

    def _play_text(
        self, layer: HeadLayer, number: int, starts: Sequence[int]
    ) -> tuple[list[tuple[int, list[int], float]], RolloutSums]:
        """(root, accepted tokens, advantage) of the places in active groups of one text."""
        if not starts:
            return [], RolloutSums()
        cfg, target, size = self._config, self._target, self._config.group_size
        roots = [start + place for start in starts for place in range(size)]
        ids = self._conversations[number].ids
        cache = target.new_cache(roots[-1] + room(cfg.tree.nodes + 1, target.device))
        features = target.prefill(ids[: roots[-1]], cache).features
        old = self._kept.get(number)
        if old is None:
            trees = propose_along(self._reference, target, ids, features, roots, cfg.tree)
            old = ScoredTrees(trees, target.score_trees(trees, roots, cache, temperature=cfg.temperature))
            if cfg.starts == "fixed":
                self._kept[number] = old
        trees = propose_along(layer, target, ids, features, roots, cfg.tree)
        new, num_new = self._score_difference(trees, old, roots, cache)
        ours, theirs = self._values(new), self._values(old)
        debiased = (ours[:, 0] - theirs[:, 0]).reshape(-1, size)
        weights, active, std = advantages(debiased, delta=cfg.delta, flat_std=cfg.flat_std)
        eos = target.tokenizer.eos_ids
        row = [
            (roots[i], longest_accepted(new.trees[i], new.scores[i].best, eos), float(weights.flat[i]))
            for i in np.repeat(active, size).nonzero()[0]
        ]
        sums = [*ours.sum(0), *theirs.sum(0)]  # reward, exact, greedy of each
        return row, RolloutSums(
            groups=len(starts),
            active=float(active.sum()),
            spread=float(std.sum()),
            places=len(roots),
            reward=float(sums[0]),
            reward_ref=float(sums[3]),
            exact=float(sums[1]),
            exact_ref=float(sums[4]),
            greedy=float(sums[2]),
            greedy_ref=float(sums[5]),
            new_nodes=num_new,
        )

    def _values(self, part: ScoredTrees) -> np.ndarray:
        """Reward, exact reward and greedy accepted tokens of each tree [trees, 3]."""
        cfg, eos = self._config, self._target.tokenizer.eos_ids
        values = []
        for tree, scores in zip(part.trees, part.scores, strict=True):
            probs = path_probs(tree, scores.log_probs, eos)
            reward = tree_reward(tree, probs, cfg.reward, eta=cfg.eta)
            values.append((reward, expected_accepted(probs), len(longest_accepted(tree, scores.best, eos))))
        return np.array(values)

    def _score_difference(
        self, trees: list[DraftTree], old: ScoredTrees, roots: Sequence[int], cache: KVCache
    ) -> tuple[ScoredTrees, int]:
        """Scores of the current trees, looked up for paths that the reference trees hold; also how many were not."""
        known = [same_paths(tree, other) for tree, other in zip(trees, old.trees, strict=True)]
        missing = [i for i, rows in enumerate(known) if (rows < 0).any()]
        parts = [_closed_part(trees[i], known[i] < 0) for i in missing]
        found = self._target.score_trees(
            [part for part, _ in parts], [roots[i] for i in missing], cache, temperature=self._config.temperature
        )
        scores = [
            TreeScores(s.log_probs[rows.clamp_min(0)], s.best[rows.clamp_min(0)])
            for s, rows in zip(old.scores, known, strict=True)
        ]
        for i, (_, needed), part in zip(missing, parts, found, strict=True):
            fresh = (known[i] < 0)[needed]
            at = needed.nonzero()[:, 0][fresh]
            scores[i].log_probs[at] = part.log_probs[fresh]
            scores[i].best[at] = part.best[fresh]
        return ScoredTrees(trees, scores), sum(part.size for part, _ in parts)


def check_room_for_groups(config: GtoConfig, target: Target, conversations: Sequence[Conversation]) -> None:
    """Refuse groups that fit into no answer.

    Raises:
        UsageError: No answer has as many places as a group.
    """
    longest = max(len(run) for runs in _all_places(config, target, conversations) for run in runs)
    if longest < config.group_size:
        raise UsageError(
            f"no answer has room for a group of {config.group_size} adjacent places: the longest has {longest}",
            hint="lower gto.group_size or give longer answers",
        )


def _all_places(config: GtoConfig, target: Target, conversations: Sequence[Conversation]) -> list[list[range]]:
    """Usable places of each text: a whole tree behind them stays within the target's positions."""
    max_root = target.shape.max_positions - config.tree.depth - 1
    return [places(conversation, max_root) for conversation in conversations]


def same_paths(tree: DraftTree, other: DraftTree) -> torch.Tensor:
    """For each node of a tree, the node of another with the same path from the same root, or -1 [N]."""
    children, rows = other.children(), [0]
    for parent, token in zip(tree.parents.tolist()[1:], tree.tokens.tolist()[1:], strict=True):
        rows.append(children.get((rows[parent], token), -1))
    return torch.tensor(rows)


def _closed_part(tree: DraftTree, wanted: torch.Tensor) -> tuple[DraftTree, torch.Tensor]:
    """The smallest part of a tree that holds the wanted nodes and their ancestors; also which nodes it has [N]."""
    needed = tree.ancestors[wanted].any(0)
    place = needed.cumsum(0) - 1
    parents = [-1, *place[tree.parents[needed][1:]].tolist()]
    return build_tree(tree.tokens[needed].tolist(), parents, tree.scores[needed].numpy()), needed
