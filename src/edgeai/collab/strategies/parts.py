"""What strategies are built from."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from edgeai.collab.edge_device import EdgeDevice
from edgeai.collab.schema import CollabRunConfig, MinerConfig, UpdateConfig
from edgeai.collab.strategies.strategy import Labelled
from edgeai.collab.update import Updater


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


def remember(updater: Updater, label: Labelled) -> None:
    """Puts a labelled frame into the trainer's buffer."""
    updater.buffer.add(
        frame_id=label.frame_id,
        time_s=label.time_s,
        image=label.jpeg,
        labels=label.answer.labels,
        weight=label.answer.weight,
        score=label.verdict.score if label.verdict.score is not None else 1.0,
        version=label.version,
        importance=label.verdict.importance,
    )
