"""The context that strategies are built from: config, edge device, and known times."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from edgeai.collab.config.policy import MinerConfig, UpdateConfig
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.learning.trainer import Trainer


@dataclass(frozen=True)
class StrategyContext:
    """A run's config and edge device."""

    cfg: CollabRunConfig
    edge: EdgeDevice
    size_px: tuple[int, int]
    """Height and width of the frames."""
    pass_s: float
    """Duration of one pass of the edge model at the edge."""
    delay_s: float
    """One-way delay of the link."""

    def trainer(self, config: UpdateConfig, miner: MinerConfig | None = None) -> Trainer:
        """Return a trainer with its own copies of edge model and miner.

        Args:
            config: Update settings.
            miner: Miner settings; None takes those of the edge's miner.

        Raises:
            UsageError: The edge model is frozen.
        """
        own = copy.deepcopy(self.edge.miner)
        own.config = miner or own.config
        return Trainer(copy.deepcopy(self.edge.model), own, config, self.cfg.seed)
