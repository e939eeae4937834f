"""LAECIPS and AppealNet: a trained miner decides, the cloud teaches."""

from __future__ import annotations

from typing import Literal

from edgeai.collab.config.models import NoMasks
from edgeai.collab.config.policy import FixedThreshold, MinerConfig, UpdateConfig
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.learning.trainer import UpdateResult
from edgeai.collab.learning.version import Version
from edgeai.collab.strategies.parts import Parts
from edgeai.collab.strategies.scored import NO_EXPLORING, Scored
from edgeai.collab.strategies.strategy import EdgeView, Labelled
from edgeai.collab.strategies.taught import Taught

WARM_UP = 32
"""Labelled frames on which appealnet's gate is fitted."""


class Laecips(Taught, Scored):
    """laecips: hard inputs go up; edge model, miner and threshold all learn from the cloud's labels.

    Paper: LAECIPS, arXiv 2404.10498. Rule: hard iff h(f(x)) < delta; the cloud answers with masks and semantics fused,
    keeps the labelled frame, trains the edge model and h, and publishes both. Constants: not published; ours, in the
    config (quantile threshold at a rate of 0.3, exploration 0.02, updates every 16 labels or 30 s, 256 frames kept).
    Differs: exploration with importance weights, the hold-out gate, BatchNorm refresh and the threshold policies are
    ours.

    laecips-no-*: without one part: update (the edge model stays; miner and threshold learn), him (max-prob instead of
    the trained miner), masks (the cloud's semantics alone), explore, threshold (a fixed delta of 0.95), gate (every
    trained model is kept), bn (no BatchNorm refresh).
    """

    def __init__(self, parts: Parts) -> None:
        cfg = parts.cfg
        super().__init__(mined, cfg.threshold, cfg.explore, cfg.seed)
        self._updater = parts.updater(cfg.update)


def mined(view: EdgeView) -> float:
    """h(f(x)): the trained miner's score."""
    return view.edge.mined


class AppealNet(Taught, Scored):
    """appealnet: a gate beside the edge net, trained once, decides; nothing else is learned.

    Paper: AppealNet, DAC 2021, arXiv 2105.04104. Rule: upload iff the gate h < delta; h is trained jointly with the
    task on h * loss - beta ln h. Constants: beta from the miner's config. Differs: there gate and task net are trained
    together, before deployment; here the net is the given one and the gate is fitted to the first 32 labelled frames of
    the run (until then it is max-prob), then left alone.
    """

    def __init__(self, parts: Parts) -> None:
        cfg = parts.cfg
        super().__init__(mined, cfg.threshold, NO_EXPLORING, cfg.seed)
        miner: MinerConfig = cfg.miner.model_copy(update={"target": "appealnet"})
        update: UpdateConfig = cfg.update.model_copy(update={"steps": 0, "refresh_batchnorm": False, "gate": False})
        self._updater = parts.updater(update, miner)
        self._is_fitted = False

    def labelled(self, label: Labelled) -> None:
        """Remembers it while the gate is not fitted."""
        if not self._is_fitted:
            super().labelled(label)

    def due(self, now_s: float) -> bool:
        """Once."""
        return not self._is_fitted and self._updater.buffer.num_added >= WARM_UP

    def update(self, now_s: float) -> tuple[UpdateResult, Version]:
        """Fits the gate."""
        self._is_fitted = True
        return super().update(now_s)


Ablated = Literal["update", "him", "masks", "explore", "threshold", "gate", "bn"]


def without(cfg: CollabRunConfig, part: Ablated) -> CollabRunConfig:
    """The config of laecips without one of its parts."""
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
