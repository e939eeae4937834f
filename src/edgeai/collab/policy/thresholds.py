"""Threshold policies: which confidence scores are hard, learned from what uploads bring and cost.

A frame with score s is hard, and is uploaded, if s < delta. Every policy gives the probability of that and hears about

    seen      every frame's score and whether it was to be uploaded (a link that is down does not change that)
    labelled  the edge's loss on a frame that the cloud has labelled, with its importance weight 1/p
    observed  the latency of an answer, and bytes sent

and keeps to what its class says. Source: LAECIPS (arXiv 2404.10498) updates its strategy, how is not published; the
dual step is that of its latency constraint, quantile and cost are ours, the two thresholds follow H2T2 (arXiv
2509.15674).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from edgeai.collab.config.policy import (
    CostThreshold,
    DualThreshold,
    FixedThreshold,
    H2t2Threshold,
    QuantileThreshold,
    ThresholdConfig,
)

ALL_HARD = float(np.nextafter(1.0, 2.0))
"""The lowest threshold that every score in [0,1] is below."""


class Policy(Protocol):
    """A threshold policy."""

    @property
    def delta(self) -> float:
        """The threshold now."""

    def hard_prob(self, score: float) -> float:
        """Probability that a frame with this score is uploaded, exploration aside."""

    def seen(self, score: float, *, upload: bool) -> None:
        """Hears of a frame and of the decision about it."""

    def labelled(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Hears the edge's loss in [0,1] on an uploaded frame, and 1/p with p the probability of its upload."""

    def observed(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Hears of an answer's latency or of bytes that went up; in order of time."""


class Fixed:
    """A constant threshold; also the ground that the other policies stand on: they hear nothing unless they want to."""

    def __init__(self, delta: float) -> None:
        self._delta = delta

    @property
    def delta(self) -> float:
        """The threshold now."""
        return self._delta

    def hard_prob(self, score: float) -> float:
        """1 below the threshold."""
        return float(score < self.delta)

    def seen(self, score: float, *, upload: bool) -> None:
        """Nothing to learn."""

    def labelled(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Nothing to learn."""

    def observed(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Nothing to learn."""


class Quantile(Fixed):
    """Holds an upload rate: delta is a quantile of the last scores, whose level makes up for uploads owed.

    The quantile alone lags behind scores that drift. `owed` = rate * frames - uploads is the integral of the error, so
    once it settles the mean rate is exactly the one that was asked for. The level may leave [0,1]: no frame is hard
    below 0, every frame is above 1; there `owed` comes back by itself. Scores equal to delta are drawn, as many as the
    level asks for: a saturated score is 1 on most frames, and no threshold could part those.
    """

    def __init__(self, config: QuantileThreshold) -> None:
        super().__init__(config.rate)
        self._config = config
        self._scores: deque[float] = deque(maxlen=config.window)
        self._owed = 0.0
        self._tie_prob = 0.0

    def hard_prob(self, score: float) -> float:
        """1 below the threshold, and on it what is missing to the level."""
        return self._tie_prob if score == self._delta else float(score < self._delta)

    def seen(self, score: float, *, upload: bool) -> None:
        """Moves the threshold."""
        self._scores.append(score)
        self._owed += self._config.rate - upload
        level = self._config.rate + self._config.gain * self._owed
        if not 0.0 < level < 1.0:
            self._delta, self._tie_prob = (0.0 if level <= 0.0 else ALL_HARD), 0.0
            return
        scores = np.sort(self._scores)
        wanted = level * scores.size
        self._delta = float(scores[min(int(wanted), scores.size - 1)])
        first, end = np.searchsorted(scores, self._delta, "left"), np.searchsorted(scores, self._delta, "right")
        self._tie_prob = float((wanted - first) / (end - first))


class Dual(Fixed):
    """Holds a mean latency and a byte rate by a price: delta = 1 - price, raised while a budget is overrun.

    If h predicts the edge's agreement with the cloud, 1 - h is the loss of staying, and the best decision under a
    budget is to upload exactly if that exceeds the price of an upload: h < 1 - price. The price takes a projected
    subgradient step

        price <- max(0, price + step * (latency / budget - 1))        and likewise for bytes a second

    so the overrun over any time is at most budget * (final - first price) / step, while the price cannot climb far
    beyond 1, where nothing is uploaded any more.
    """

    def __init__(self, config: DualThreshold) -> None:
        super().__init__(1.0)
        self._config = config
        self._latency_price = 0.0
        self._bytes_price = 0.0
        self._time_s: float | None = None

    @property
    def delta(self) -> float:
        """The threshold now; the two budgets' prices add up."""
        return max(0.0, 1.0 - self._latency_price - self._bytes_price)

    def observed(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Raises or lowers the prices."""
        config = self._config
        if config.latency_s is not None and latency_s is not None:
            step = config.latency_step * (latency_s / config.latency_s - 1.0)
            self._latency_price = max(0.0, self._latency_price + step)
        if config.bytes_per_s is not None:
            passed_s = 0.0 if self._time_s is None else time_s - self._time_s
            self._time_s = time_s
            step = config.bytes_step * (num_bytes / config.bytes_per_s - passed_s)
            self._bytes_price = max(0.0, self._bytes_price + step)


class Cost(Fixed):
    """The threshold that would have cost least on the frames labelled last.

    Cost of delta = sum of w (s >= delta ? loss_edge : upload_cost) over those frames, w the importance weights: without
    them the frames that only exploration uploads would count too little. Of equal costs the least delta is taken.
    """

    def __init__(self, config: CostThreshold) -> None:
        super().__init__(config.start)
        self._upload_cost = config.upload_cost
        self._frames: deque[tuple[float, float]] = deque(maxlen=config.window)  # score, w (loss - upload cost)

    def labelled(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Searches anew."""
        self._frames.append((score, weight * (loss_edge - self._upload_cost)))
        scores, gains = np.array(self._frames).T
        order = np.argsort(scores, kind="stable")
        scores, gains = scores[order], gains[order]
        # uploading the k lowest scores saves the sum of their gains; equal scores cannot be parted
        saved = np.concatenate([[0.0], gains.cumsum()])
        cuts = np.concatenate([[0.0], (scores[:-1] + scores[1:]) / 2, [np.nextafter(scores[-1], 2.0)]])
        allowed = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
        self._delta = float(cuts[np.where(allowed, saved, -np.inf).argmax()])


class H2t2(Fixed):
    """Exponential weights over pairs of thresholds (low, high): a frame is uploaded if low <= s < high.

    Frames below `low` are those that are not worth their upload although the edge is unsure. An upload costs
    `upload_cost`, which every pair that would upload pays at once; the others pay the edge's loss, which only uploads
    reveal, as loss / p where the frame was uploaded and 0 elsewhere: unbiased. A frame's pair is drawn by weight, and
    `Explorer` uploads a share eps of the others, so p = q + (1 - q) eps. With eta the learning rate, T frames and N
    pairs

        E[regret to the best fixed pair] <= (eps * upload_cost + eta / (2 eps)) T + ln N / eta

    Differs from H2T2: there a frame outside the pair is a negative or a positive, here the edge's answer stands on both
    sides; and every upload teaches, not only those of exploration, which keeps the bound (1/p <= 1/eps).
    """

    def __init__(self, config: H2t2Threshold) -> None:
        super().__init__(1.0)
        self._config = config
        levels = np.linspace(0.0, 1.0, config.num_levels + 1)
        levels[-1] = ALL_HARD
        low, high = np.triu_indices(config.num_levels + 1, k=1)
        self._low = np.concatenate([[0.0], levels[low]])  # the first pair uploads nothing
        self._high = np.concatenate([[0.0], levels[high]])
        self._log_weights = np.zeros(self._low.size)

    @property
    def num_pairs(self) -> int:
        """N."""
        return self._low.size

    @property
    def delta(self) -> float:
        """The mean upper threshold, for reports."""
        return float(self._weights() @ np.minimum(self._high, 1.0))

    def hard_prob(self, score: float) -> float:
        """Weight of the pairs that upload this score."""
        return float(self._weights()[self._uploads(score)].sum())

    def seen(self, score: float, *, upload: bool) -> None:
        """Pairs that would upload it pay for that."""
        self._log_weights[self._uploads(score)] -= self._config.learning_rate * self._config.upload_cost

    def labelled(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Pairs that would not have uploaded it pay the edge's loss."""
        self._log_weights[~self._uploads(score)] -= self._config.learning_rate * loss_edge * weight

    def _uploads(self, score: float) -> np.ndarray:
        return (self._low <= score) & (score < self._high)

    def _weights(self) -> np.ndarray:
        weights = np.exp(self._log_weights - self._log_weights.max())
        return np.asarray(weights / weights.sum())


def build_policy(config: ThresholdConfig) -> Policy:
    """The policy that a config asks for."""
    match config:
        case FixedThreshold():
            return Fixed(config.delta)
        case QuantileThreshold():
            return Quantile(config)
        case DualThreshold():
            return Dual(config)
        case CostThreshold():
            return Cost(config)
        case H2t2Threshold():
            return H2t2(config)
