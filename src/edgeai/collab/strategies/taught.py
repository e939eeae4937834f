"""Strategies whose edge model or miner learns from the cloud's labels."""

from __future__ import annotations

from typing import Literal

from edgeai.collab.learning.trainer import Updater, UpdateResult
from edgeai.collab.learning.version import Version
from edgeai.collab.strategies.strategy import EdgeOnly, Labelled


class Taught(EdgeOnly):
    """Rule: what the cloud labels goes into the buffer of a trainer, which trains when the config says so.

    What is uploaded is up to the strategy. It sets `_updater`.
    """

    trains_at: Literal["cloud", "edge"] | None = "cloud"
    _updater: Updater

    def labelled(self, label: Labelled) -> None:
        """Remembers it."""
        self._updater.buffer.add(
            frame_id=label.frame_id,
            time_s=label.time_s,
            image=label.jpeg,
            labels=label.answer.labels,
            weight=label.answer.weight,
            score=label.verdict.score if label.verdict.score is not None else 1.0,
            version=label.version,
            importance=label.verdict.importance,
        )

    def due(self, now_s: float) -> bool:
        """As the config says."""
        return self._updater.due(now_s)

    def update(self, now_s: float) -> tuple[UpdateResult, Version]:
        """Trains edge model and miner, each for as many steps as its config has."""
        return self._updater.update(now_s), self._updater.version
