"""Threshold policies: fixed, upload rate, budgets, cost, and two learned thresholds.

Source: LAECIPS (arXiv 2404.10498) updates its strategy but does not publish how. The dual step is that of its latency
constraint; the quantile and cost policies are ours; the two thresholds follow H2T2 (arXiv 2509.15674).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edgeai.collab.config.policy import CostThreshold, DualThreshold, H2t2Threshold, QuantileThreshold

ALL_HARD = float(np.nextafter(1.0, 2.0))
"""The smallest threshold that is above every score in [0,1]."""


class FixedPolicy:
    """A constant threshold. Base class of the other policies; its callbacks do nothing."""

    def __init__(self, delta: float) -> None:
        self._delta = delta

    @property
    def delta(self) -> float:
        """The current threshold."""
        return self._delta

    def hard_prob(self, score: float) -> float:
        """Return 1 below the threshold, otherwise 0."""
        return float(score < self.delta)

    def on_decision(self, score: float, *, upload: bool) -> None:
        """Do nothing."""

    def on_label(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Do nothing."""

    def on_usage(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Do nothing."""


class QuantilePolicy(FixedPolicy):
    """Holds an upload rate: delta is a quantile of the latest scores, with integral control of the quantile level.

    A quantile alone lags behind drifting scores. `owed` = rate * frames - uploads is the integral of the rate error;
    once it settles, the mean rate equals the configured rate. The level may leave [0,1]: below 0 no frame is hard,
    above 1 every frame is, and `owed` then returns by itself. Frames whose score equals delta are uploaded with a
    probability that meets the level: a saturated score is 1 on most frames, and no threshold can separate those.
    """

    def __init__(self, config: QuantileThreshold) -> None:
        super().__init__(config.rate)
        self._config = config
        self._scores: deque[float] = deque(maxlen=config.window)
        self._owed = 0.0
        self._tie_prob = 0.0

    def hard_prob(self, score: float) -> float:
        """Return 1 below the threshold, and the probability that meets the level at it."""
        return self._tie_prob if score == self._delta else float(score < self._delta)

    def on_decision(self, score: float, *, upload: bool) -> None:
        """Update the integral and the threshold."""
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


class DualPolicy(FixedPolicy):
    """Holds a mean latency and a byte rate with a price of uploads: delta = 1 - price.

    If h predicts the edge's agreement with the cloud, 1 - h is the loss of not uploading. The optimal decision under a
    budget is to upload exactly if this loss exceeds the price of an upload: h < 1 - price. The price follows a
    projected subgradient step, for the latency and in the same way for bytes per second:

        price <- max(0, price + step * (latency / budget - 1))

    The overrun over any time is therefore at most budget * (final price - first price) / step. The price cannot rise
    far above 1, where nothing is uploaded.
    """

    def __init__(self, config: DualThreshold) -> None:
        super().__init__(1.0)
        self._config = config
        self._latency_price = 0.0
        self._bytes_price = 0.0
        self._time_s: float | None = None

    @property
    def delta(self) -> float:
        """The current threshold: 1 minus the sum of both prices."""
        return max(0.0, 1.0 - self._latency_price - self._bytes_price)

    def on_usage(self, time_s: float, *, latency_s: float | None = None, num_bytes: int = 0) -> None:
        """Update the prices."""
        config = self._config
        if config.latency_s is not None and latency_s is not None:
            step = config.latency_step * (latency_s / config.latency_s - 1.0)
            self._latency_price = max(0.0, self._latency_price + step)
        if config.bytes_per_s is not None:
            passed_s = 0.0 if self._time_s is None else time_s - self._time_s
            self._time_s = time_s
            step = config.bytes_step * (num_bytes / config.bytes_per_s - passed_s)
            self._bytes_price = max(0.0, self._bytes_price + step)


class CostPolicy(FixedPolicy):
    """Takes the threshold with the least cost on the latest labeled frames.

    Cost of delta = sum of w (s >= delta ? loss_edge : upload_cost) over these frames, with importance weights w:
    without weights, frames that only exploration uploads would be under-represented. Of equal costs the smallest delta
    is taken.
    """

    def __init__(self, config: CostThreshold) -> None:
        super().__init__(config.start)
        self._upload_cost = config.upload_cost
        self._frames: deque[tuple[float, float]] = deque(maxlen=config.window)  # score, w (loss - upload cost)

    def on_label(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Add a frame and search for the best threshold."""
        self._frames.append((score, weight * (loss_edge - self._upload_cost)))
        scores, gains = np.array(self._frames).T
        order = np.argsort(scores, kind="stable")
        scores, gains = scores[order], gains[order]
        # uploading the k lowest scores saves the sum of their gains; equal scores cannot be separated
        saved = np.concatenate([[0.0], gains.cumsum()])
        cuts = np.concatenate([[0.0], (scores[:-1] + scores[1:]) / 2, [np.nextafter(scores[-1], 2.0)]])
        allowed = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
        self._delta = float(cuts[np.where(allowed, saved, -np.inf).argmax()])


class H2t2Policy(FixedPolicy):
    """Learns two thresholds (low, high) by exponential weights over pairs: a frame is uploaded if low <= s < high.

    Frames below `low` are not worth an upload although the edge is uncertain. Every pair that would upload a frame pays
    `upload_cost`. The other pairs pay the edge's loss. Only uploads reveal this loss, so they pay loss / p for an
    uploaded frame and 0 otherwise, which is unbiased. The pair for a frame is drawn by weight, and `Explorer` uploads a
    share eps of the remaining frames, so p = q + (1 - q) eps. With learning rate eta, T frames and N pairs:

        E[regret to the best fixed pair] <= (eps * upload_cost + eta / (2 eps)) T + ln N / eta

    Differs from H2T2: there a frame outside the pair is classified as negative or positive; here the edge's answer is
    used on both sides. Every upload is learned from, not only explored ones; the bound still holds (1/p <= 1/eps).
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
        """Number of pairs N."""
        return self._low.size

    @property
    def delta(self) -> float:
        """The weighted mean of the upper thresholds, for reports."""
        return float(self._weights() @ np.minimum(self._high, 1.0))

    def hard_prob(self, score: float) -> float:
        """Return the total weight of the pairs that upload this score."""
        return float(self._weights()[self._uploads(score)].sum())

    def on_decision(self, score: float, *, upload: bool) -> None:
        """Charge the upload cost to all pairs that upload this score."""
        self._log_weights[self._uploads(score)] -= self._config.learning_rate * self._config.upload_cost

    def on_label(self, score: float, *, loss_edge: float, weight: float) -> None:
        """Charge the edge's loss to all pairs that do not upload this score."""
        self._log_weights[~self._uploads(score)] -= self._config.learning_rate * loss_edge * weight

    def _uploads(self, score: float) -> np.ndarray:
        return (self._low <= score) & (score < self._high)

    def _weights(self) -> np.ndarray:
        weights = np.exp(self._log_weights - self._log_weights.max())
        return np.asarray(weights / weights.sum())
