"""Base class of strategies whose edge model or miner is trained on the cloud's labels."""

from __future__ import annotations

from typing import Literal

from edgeai.collab.learning.trainer import Trainer
from edgeai.collab.learning.version import UpdateResult
from edgeai.collab.strategies.strategy import LabeledFrame, Strategy


class Trained(Strategy):
    """Rule: labeled frames enter the replay buffer of a trainer, which trains as configured.

    Subclasses decide on uploads, and set `_trainer`.
    """

    trains_at: Literal["cloud", "edge"] | None = "cloud"
    _trainer: Trainer

    def on_label(self, label: LabeledFrame) -> None:
        """Add a labeled frame to the replay buffer."""
        self._trainer.buffer.add(
            frame_id=label.frame_id,
            time_s=label.time_s,
            image=label.jpeg,
            labels=label.answer.labels,
            weight=label.answer.weight,
            score=label.decision.score if label.decision.score is not None else 1.0,
            version=label.version,
            importance=label.decision.importance,
        )

    def due(self, now_s: float) -> bool:
        """Return whether the config asks for an update."""
        return self._trainer.due(now_s)

    def update(self, now_s: float) -> UpdateResult:
        """Train edge model and miner, each for the configured number of steps."""
        return self._trainer.update(now_s)
