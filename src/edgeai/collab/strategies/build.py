"""Table of all strategies by name, and their factory."""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.config.policy import ScoreKind
from edgeai.collab.config.run import CollabRunConfig, StrategyName
from edgeai.collab.strategies.ams_shoggoth import Ams, Shoggoth
from edgeai.collab.strategies.baselines import CloudEverything, EdgeOnly, Random
from edgeai.collab.strategies.bn_adapt import BnAdapt
from edgeai.collab.strategies.cema import Cema
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.dcsb import Dcsb
from edgeai.collab.strategies.laecips import Ablated, AppealNet, Laecips, without
from edgeai.collab.strategies.neurosurgeon import Neurosurgeon
from edgeai.collab.strategies.score_threshold import NO_EXPLORING, Scored, classic, foreknown
from edgeai.collab.strategies.strategy import Strategy

_ABLATIONS: dict[StrategyName, Ablated] = {
    "laecips-no-update": "update",
    "laecips-no-him": "him",
    "laecips-no-masks": "masks",
    "laecips-no-explore": "explore",
    "laecips-no-threshold": "threshold",
    "laecips-no-gate": "gate",
    "laecips-no-bn": "bn",
}


def _classic(name: ScoreKind) -> Callable[[StrategyContext], Strategy]:
    return lambda context: Scored(classic(name), context.cfg.threshold, NO_EXPLORING, context.cfg.seed)


STRATEGIES: dict[StrategyName, Callable[[StrategyContext], Strategy]] = {
    "edge-only": lambda context: EdgeOnly(),
    "cloud-only": lambda context: CloudEverything(),
    "random": lambda context: Random(context.cfg.upload_rate, context.cfg.seed),
    "oracle": lambda context: Scored(foreknown, context.cfg.threshold, NO_EXPLORING, context.cfg.seed),
    "max-prob": _classic("max_prob"),
    "margin": _classic("margin"),
    "entropy": _classic("entropy"),
    "frac-above": _classic("frac_above"),
    "cross-entropy": _classic("sedna_cross_entropy"),
    "ibt": _classic("ibt"),
    "appealnet": AppealNet,
    "dcsb": lambda context: Dcsb(context.cfg.threshold, context.cfg.seed),
    "ams": Ams,
    "shoggoth": Shoggoth,
    "cema": Cema,
    "bn-adapt": BnAdapt,
    "neurosurgeon": Neurosurgeon,
    "laecips": Laecips,
    **dict.fromkeys(_ABLATIONS, Laecips),
}


def settled(cfg: CollabRunConfig) -> CollabRunConfig:
    """Return the effective config of a strategy: an ablation disables its component."""
    part = _ABLATIONS.get(cfg.strategy)
    return cfg if part is None else without(cfg, part)


def build_strategy(context: StrategyContext) -> Strategy:
    """Return the strategy that an effective config names.

    Raises:
        UsageError: The strategy adapts the edge model, and the model is frozen.
    """
    return STRATEGIES[context.cfg.strategy](context)
