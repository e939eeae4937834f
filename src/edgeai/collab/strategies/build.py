"""All strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.config.policy import ScoreKind
from edgeai.collab.config.run import CollabRunConfig, StrategyName
from edgeai.collab.strategies.bn_adapt import BnAdapt
from edgeai.collab.strategies.cema import Cema
from edgeai.collab.strategies.dcsb import Dcsb
from edgeai.collab.strategies.fixed import CloudEverything, Random
from edgeai.collab.strategies.laecips import Ablated, AppealNet, Laecips, without
from edgeai.collab.strategies.neurosurgeon import Neurosurgeon
from edgeai.collab.strategies.parts import Parts
from edgeai.collab.strategies.sampled import Ams, Shoggoth
from edgeai.collab.strategies.scored import NO_EXPLORING, Scored, classic, foreknown
from edgeai.collab.strategies.strategy import EdgeOnly

__all__ = ["STRATEGIES", "EdgeOnly", "Parts", "build_strategy", "settled"]

_ABLATIONS: dict[StrategyName, Ablated] = {
    "laecips-no-update": "update",
    "laecips-no-him": "him",
    "laecips-no-masks": "masks",
    "laecips-no-explore": "explore",
    "laecips-no-threshold": "threshold",
    "laecips-no-gate": "gate",
    "laecips-no-bn": "bn",
}


def _classic(name: ScoreKind) -> Callable[[Parts], EdgeOnly]:
    return lambda parts: Scored(classic(name), parts.cfg.threshold, NO_EXPLORING, parts.cfg.seed)


STRATEGIES: dict[StrategyName, Callable[[Parts], EdgeOnly]] = {
    "edge-only": lambda parts: EdgeOnly(),
    "cloud-only": lambda parts: CloudEverything(),
    "random": lambda parts: Random(parts.cfg.upload_rate, parts.cfg.seed),
    "oracle": lambda parts: Scored(foreknown, parts.cfg.threshold, NO_EXPLORING, parts.cfg.seed),
    "max-prob": _classic("max_prob"),
    "margin": _classic("margin"),
    "entropy": _classic("entropy"),
    "frac-above": _classic("frac_above"),
    "cross-entropy": _classic("sedna_cross_entropy"),
    "ibt": _classic("ibt"),
    "appealnet": AppealNet,
    "dcsb": lambda parts: Dcsb(parts.cfg.threshold, parts.cfg.seed),
    "ams": Ams,
    "shoggoth": Shoggoth,
    "cema": Cema,
    "bn-adapt": BnAdapt,
    "neurosurgeon": Neurosurgeon,
    "laecips": Laecips,
    **dict.fromkeys(_ABLATIONS, Laecips),
}


def settled(cfg: CollabRunConfig) -> CollabRunConfig:
    """The config that a strategy really runs with: an ablation takes its part out."""
    part = _ABLATIONS.get(cfg.strategy)
    return cfg if part is None else without(cfg, part)


def build_strategy(parts: Parts) -> EdgeOnly:
    """The strategy that a settled config names.

    Raises:
        UsageError: It adapts the edge model, and that is frozen.
    """
    return STRATEGIES[parts.cfg.strategy](parts)
