"""LAECIPS and AppealNet: a trained miner selects uploads, and the cloud's labels train it."""

from __future__ import annotations

from typing import Literal

from edgeai.collab.config.models import NoMasks
from edgeai.collab.config.policy import FixedThreshold, MinerConfig, UpdateConfig
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.learning.version import UpdateResult
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.score_threshold import NO_EXPLORING, Scored
from edgeai.collab.strategies.strategy import EdgeView, LabeledFrame
from edgeai.collab.strategies.trained import Trained

WARM_UP = 32
"""Number of labeled frames on which appealnet's gate is fitted."""


class Laecips(Trained, Scored):
    """laecips: hard frames are uploaded; edge model, miner and threshold all learn from the cloud's labels.

    Paper: LAECIPS, arXiv 2404.10498. Rule: hard iff h(f(x)) < delta; the cloud answers with fused masks and semantics,
    stores the labeled frame, trains the edge model and h, and publishes both. Constants: not published; ours, in the
    config (quantile threshold at a rate of 0.3, exploration 0.02, updates every 16 labels or 30 s, 256 frames kept).
    Differs: exploration with importance weights, the hold-out gate, BatchNorm refresh and the threshold policies are
    ours.

    laecips-no-*: one component disabled: update (only miner and threshold learn), him (max-prob instead of the trained
    miner), masks (only the cloud's semantics), explore, threshold (a fixed delta of 0.95), gate (every trained model is
    accepted), bn (no BatchNorm refresh).
    """

    def __init__(self, context: StrategyContext) -> None:
        cfg = context.cfg
        super().__init__(mined, cfg.threshold, cfg.explore, cfg.seed)
        self._trainer = context.trainer(cfg.update)


def mined(view: EdgeView) -> float:
    """Return h(f(x)), the trained miner's score."""
    return view.edge.mined


class AppealNet(Trained, Scored):
    """appealnet: a gate next to the edge net is trained once and selects uploads; nothing else is learned.

    Paper: AppealNet, DAC 2021, arXiv 2105.04104. Rule: upload iff the gate h < delta; h is trained jointly with the
    task on h * loss - beta ln h. Constants: beta from the miner's config. Differs: there gate and task net are trained
    together, before deployment; here the net is the given one and the gate is fitted to the first 32 labeled frames of
    the run (max-prob until then) and not changed afterwards.
    """

    def __init__(self, context: StrategyContext) -> None:
        cfg = context.cfg
        super().__init__(mined, cfg.threshold, NO_EXPLORING, cfg.seed)
        miner: MinerConfig = cfg.miner.model_copy(update={"target": "appealnet"})
        update: UpdateConfig = cfg.update.model_copy(update={"steps": 0, "refresh_batchnorm": False, "gate": False})
        self._trainer = context.trainer(update, miner)
        self._is_fitted = False

    def on_label(self, label: LabeledFrame) -> None:
        """Add a labeled frame until the gate is fitted."""
        if not self._is_fitted:
            super().on_label(label)

    def due(self, now_s: float) -> bool:
        """Return whether the gate can be fitted; True once."""
        return not self._is_fitted and self._trainer.buffer.num_added >= WARM_UP

    def update(self, now_s: float) -> UpdateResult:
        """Fit the gate."""
        self._is_fitted = True
        return super().update(now_s)


Ablated = Literal["update", "him", "masks", "explore", "threshold", "gate", "bn"]


def without(cfg: CollabRunConfig, part: Ablated) -> CollabRunConfig:
    """Return the config of laecips with one component disabled."""
    update, explore = cfg.update, cfg.explore
    changes: dict[Ablated, dict[str, object]] = {
        "update": {"update": update.model_copy(update={"steps": 0, "refresh_batchnorm": False})},
        "him": {"miner": cfg.miner.model_copy(update={"steps": 0})},
        "masks": {"cloud": cfg.cloud.model_copy(update={"masks": NoMasks()})},
        "explore": {"explore": explore.model_copy(update={"explore_frac": 0.0})},
        "threshold": {"threshold": FixedThreshold()},
        "gate": {"update": update.model_copy(update={"gate": False})},
        "bn": {"update": update.model_copy(update={"refresh_batchnorm": False})},
    }
    return cfg.model_copy(update=changes[part])
