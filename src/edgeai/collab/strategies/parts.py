"""What strategies are built from."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from edgeai.collab.config.policy import MinerConfig, UpdateConfig
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.learning.trainer import Updater


@dataclass(frozen=True)
class Parts:
    """A run's config and edge, as a strategy may use them."""

    cfg: CollabRunConfig
    edge: EdgeDevice
    size_px: tuple[int, int]
    pass_s: float
    """Time of one pass of the edge model at the edge."""
    delay_s: float
    """Of the link, one way."""

    def updater(self, config: UpdateConfig, miner: MinerConfig | None = None) -> Updater:
        """A trainer with its own copies of edge model and miner.

        Raises:
            UsageError: The edge model is frozen.
        """
        own = copy.deepcopy(self.edge.miner)
        own.config = miner or own.config
        return Updater(copy.deepcopy(self.edge.model), own, config, self.cfg.seed)
