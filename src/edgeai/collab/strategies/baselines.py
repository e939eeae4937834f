"""Strategies without adaptation: edge only, cloud only, and random uploads."""

from __future__ import annotations

from edgeai.collab.config.policy import ExploreConfig
from edgeai.collab.policy.exploration import Explorer
from edgeai.collab.strategies.strategy import CloudOnly, Decision, EdgeView, Route, Strategy


class EdgeOnly(Strategy):
    """edge-only: nothing is uploaded and nothing is learned. The lower reference of every comparison.

    Rule: a constant, as shipped in Sedna.
    """


class CloudEverything(Strategy):
    """cloud-only: every frame is uploaded at once, without an edge pass, and only the cloud answers.

    Rule: a constant, as shipped in Sedna. If an answer is late, the answer to an earlier frame is shown.
    """

    def route(self, now_s: float) -> Route:
        """Return the route straight to the cloud."""
        return CloudOnly()


class Random(Strategy):
    """random: a frame is uploaded with a fixed probability, regardless of its content.

    Rule: a constant rate, as shipped in Sedna (default 0.3). The reference for other strategies at the same rate.

    Args:
        rate: Upload probability.
        seed: Seed of the draws.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self._explorer = Explorer(ExploreConfig(explore_frac=0.0), seed)
        self._rate = rate

    def decide(self, view: EdgeView) -> Decision:
        """Draw the decision."""
        drawn = self._explorer.decide(self._rate, view.index)
        return Decision(upload=drawn.upload, prob_upload=self._rate)
