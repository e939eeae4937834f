"""Strategies that score a frame and upload it if the score is below a threshold."""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.config.policy import ExploreConfig, ScoreKind, ThresholdConfig
from edgeai.collab.policy.build import build_policy
from edgeai.collab.policy.exploration import Explorer
from edgeai.collab.strategies.strategy import EdgeOnly, EdgeView, Verdict
from edgeai.core.errors import UsageError

NO_EXPLORING = ExploreConfig(explore_frac=0.0)


class Scored(EdgeOnly):
    """Rule: a frame is uploaded if its score s < delta, or now and then by exploration.

    max-prob, margin, entropy, frac-above (LAECIPS' public ancestor in ianvs; its constants: frac-above, p > 0.9, delta
    0.95 fixed), cross-entropy and ibt (Sedna's filters, delta 0.5 fixed): a classic score, no exploration, nothing
    learned but the threshold. Differs: their thresholds never move; here all share the run's threshold policy, so that
    scores are compared at one upload rate (take threshold.kind: fixed for theirs).

    Args:
        score: Confidence in [0,1] of a frame.
        threshold: Policy.
        explore: Uploads of easy frames.
        seed: Of those.
    """

    def __init__(
        self, score: Callable[[EdgeView], float], threshold: ThresholdConfig, explore: ExploreConfig, seed: int
    ) -> None:
        self._score = score
        self._policy = build_policy(threshold)
        self._explorer = Explorer(explore, seed)

    @property
    def delta(self) -> float | None:
        """The threshold now."""
        return self._policy.delta

    def decide(self, view: EdgeView) -> Verdict:
        """Compares the score with the threshold."""
        score = self._score(view)
        drawn = self._explorer.decide(self._policy.hard_prob(score), view.index)
        self._policy.on_decision(score, upload=drawn.upload)
        return Verdict(
            upload=drawn.upload,
            score=score,
            is_explored=drawn.is_explored,
            prob_upload=drawn.prob_upload,
            importance=self._explorer.importance(drawn) if drawn.upload else 1.0,
        )

    def sent(self, num_bytes: int, now_s: float, goodput_bps: float | None) -> None:
        """Tells the policy."""
        self._policy.on_usage(now_s, num_bytes=num_bytes)

    def judged(self, latency_s: float, now_s: float) -> None:
        """Tells the policy."""
        self._policy.on_usage(now_s, latency_s=latency_s)

    def replied(self, verdict: Verdict, loss_edge: float) -> None:
        """Tells the policy."""
        if verdict.score is not None:
            self._policy.on_label(verdict.score, loss_edge=loss_edge, weight=verdict.importance)


def classic(name: ScoreKind) -> Callable[[EdgeView], float]:
    """A classic confidence score of the edge's own output."""
    return lambda view: view.edge.scores[name]


def foreknown(view: EdgeView) -> float:
    """oracle: the frames where the cloud is better than the edge by most, as if the truth were known beforehand.

    Rule: ianvs' OracleRouter uploads iff the edge is wrong and the cloud right. For segmentation, where every frame is
    a little wrong, s = (1 - (loss_edge - loss_cloud)) / 2 with loss 1 - mIoU, and frames that the cloud would spoil
    stay. An upper bound for every miner at the same rate.

    Raises:
        UsageError: The stream has no labels.
    """
    gain = view.gain()
    if gain is None:
        raise UsageError("the oracle needs a stream with labels", hint="take another strategy")
    return 1.0 if gain <= 0.0 else (1.0 - gain) / 2.0
