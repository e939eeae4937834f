"""Strategies that are constants: the cloud for every frame, or for frames drawn by lot."""

from __future__ import annotations

from edgeai.collab.config.policy import ExploreConfig
from edgeai.collab.policy.exploration import Explorer
from edgeai.collab.strategies.strategy import CloudOnly, EdgeOnly, EdgeView, Route, Verdict


class CloudEverything(EdgeOnly):
    """cloud-only: every frame goes up at once, the edge looks at none, and the cloud's answer is the only one.

    Rule: a constant, as Sedna ships it. A frame whose answer comes too late shows the answer of an earlier one.
    """

    def route(self, now_s: float) -> Route:
        """Straight to the cloud."""
        return CloudOnly()


class Random(EdgeOnly):
    """random: a frame goes up with a given probability, whatever it shows.

    Rule: a constant rate, as Sedna ships it (its default is 0.3). What a clever strategy must beat at the same rate.

    Args:
        rate: That probability.
        seed: Of the draws.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self._lots = Explorer(ExploreConfig(explore_frac=0.0), seed)
        self._rate = rate

    def decide(self, view: EdgeView) -> Verdict:
        """Draws a lot."""
        drawn = self._lots.decide(self._rate, view.index)
        return Verdict(upload=drawn.upload, prob_upload=self._rate)
