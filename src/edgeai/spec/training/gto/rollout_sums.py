"""Sums of rewards and acceptance over GTO rollouts, for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch

from edgeai.spec.training.distributed import Ranks
from edgeai.spec.training.gto.objective import PathSums


@dataclass(frozen=True)
class RolloutSums:
    """Sums over the groups or positions of a batch; `_ref` marks the reference head."""

    groups: float = 0.0
    active: float = 0.0
    """Groups that were not flat."""
    spread: float = 0.0
    """Standard deviation of the debiased reward, summed over groups."""
    places: float = 0.0
    """Root positions."""
    reward: float = 0.0
    reward_ref: float = 0.0
    exact: float = 0.0
    """Expected accepted draft tokens."""
    exact_ref: float = 0.0
    greedy: float = 0.0
    """Draft tokens accepted at temperature 0."""
    greedy_ref: float = 0.0
    new_nodes: float = 0.0
    """Nodes of the current trees that the reference trees lack, with their ancestors: scored in addition."""

    def __add__(self, other: RolloutSums) -> RolloutSums:
        return RolloutSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def means(self) -> dict[str, float]:
        """Return means over groups and positions."""
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
    """Return `RolloutSums.means` over all ranks, the surrogate loss, the mean ratio and the share of clipped paths."""
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
