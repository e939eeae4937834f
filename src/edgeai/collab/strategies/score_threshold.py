"""Strategies that upload a frame if its score is below a threshold."""

from __future__ import annotations

from collections.abc import Callable

from edgeai.collab.config.policy import ExploreConfig, ScoreKind, ThresholdConfig
from edgeai.collab.policy.build import build_policy
from edgeai.collab.policy.exploration import Explorer
from edgeai.collab.strategies.strategy import Decision, EdgeView, Strategy
from edgeai.core.errors import UsageError

NO_EXPLORING = ExploreConfig(explore_frac=0.0)


class Scored(Strategy):
    """Rule: a frame is uploaded if its score s < delta, or by exploration.

    max-prob, margin, entropy, frac-above (LAECIPS' public ancestor in ianvs; its constants: frac-above, p > 0.9, delta
    0.95 fixed), cross-entropy and ibt (Sedna's filters, delta 0.5 fixed): a classic score, no exploration, nothing
    learned but the threshold. Differs: their thresholds are constant; here all use the run's threshold policy, so that
    scores are compared at one upload rate (use threshold.kind: fixed for theirs).

    Args:
        score: Function that returns the confidence in [0,1] of a frame.
        threshold: Threshold policy.
        explore: Exploration settings.
        seed: Seed of exploration.
    """

    def __init__(
        self, score: Callable[[EdgeView], float], threshold: ThresholdConfig, explore: ExploreConfig, seed: int
    ) -> None:
        self._score = score
        self._policy = build_policy(threshold)
        self._explorer = Explorer(explore, seed)

    @property
    def delta(self) -> float | None:
        """The current threshold."""
        return self._policy.delta

    def decide(self, view: EdgeView) -> Decision:
        """Compare the score with the threshold."""
        score = self._score(view)
        drawn = self._explorer.decide(self._policy.hard_prob(score), view.index)
        self._policy.on_decision(score, upload=drawn.upload)
        return Decision(
            upload=drawn.upload,
            score=score,
            is_explored=drawn.is_explored,
            prob_upload=drawn.prob_upload,
            importance=self._explorer.importance(drawn) if drawn.upload else 1.0,
        )

    def on_sent(self, num_bytes: int, now_s: float, goodput_bps: float | None) -> None:
        """Report the upload to the threshold policy."""
        self._policy.on_usage(now_s, num_bytes=num_bytes)

    def on_deadline(self, latency_s: float, now_s: float) -> None:
        """Report the latency to the threshold policy."""
        self._policy.on_usage(now_s, latency_s=latency_s)

    def on_reply(self, decision: Decision, loss_edge: float) -> None:
        """Report the edge's loss to the threshold policy."""
        if decision.score is not None:
            self._policy.on_label(decision.score, loss_edge=loss_edge, weight=decision.importance)


def classic(name: ScoreKind) -> Callable[[EdgeView], float]:
    """Return a function that reads a classic confidence score from the edge's output."""
    return lambda view: view.edge.scores[name]


def foreknown(view: EdgeView) -> float:
    """oracle: upload the frames in which the cloud improves on the edge most, by the ground truth.

    Rule: ianvs' OracleRouter uploads iff the edge is wrong and the cloud is right. For segmentation, where every frame
    is partly wrong, s = (1 - (loss_edge - loss_cloud)) / 2 with loss 1 - mIoU; frames that the cloud would make worse
    are not uploaded. An upper bound for every miner at the same rate.

    Raises:
        UsageError: The stream has no labels.
    """
    gain = view.gain()
    if gain is None:
        raise UsageError("the oracle needs a stream with labels", hint="use another strategy")
    return 1.0 if gain <= 0.0 else (1.0 - gain) / 2.0
