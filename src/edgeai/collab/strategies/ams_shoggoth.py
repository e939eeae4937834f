"""AMS and Shoggoth: the cloud labels sampled frames for training and answers none."""

from __future__ import annotations

import math
from collections import deque

from edgeai.collab.config.policy import UpdateConfig
from edgeai.collab.learning.version import UpdateResult
from edgeai.collab.metrics.confusion import Labels, confusion, seg_metrics
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.strategy import Decision, EdgeView, LabeledFrame
from edgeai.collab.strategies.trained import Trained

TRAIN_EVERY_S = 10.0
PUSH_FRAC = 0.1
LEAST_RATE, RATE_STEP, RATE_SLOPE, RATE_TARGET = 0.1, 0.2, 20.0, 0.6
SLEEP_BELOW, WAKE_ABOVE, SLEEP_STEP_S, MAX_SLEEP = 0.25, 0.35, 2.0, 6.0


class SamplingRate:
    """The adaptive sampling rate of AMS, as a share of the maximum rate.

    rate <- clip(rate - 0.2 tanh(20 (phi - 0.6)), 0.1, 1), with phi the mIoU of consecutive labels of the cloud: the
    less the scene changes, the fewer frames are sampled.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._before: Labels | None = None
        self.rate = 1.0

    def on_label(self, labels: Labels) -> None:
        """Update the rate with the labels [H,W] of the next sampled frame."""
        before, self._before = self._before, labels
        metrics = None if before is None else seg_metrics(confusion(before, labels, self._num_classes))
        if metrics is not None:
            step = RATE_STEP * math.tanh(RATE_SLOPE * (metrics.miou - RATE_TARGET))
            self.rate = min(1.0, max(LEAST_RATE, self.rate - step))


class Sampled(Trained):
    """Base class: frames are uploaded at an adaptive rate, only for their labels.

    Args:
        context: Config and edge device.
        update: Training settings.
    """

    def __init__(self, context: StrategyContext, update: UpdateConfig) -> None:
        self._max_share = context.cfg.upload_rate
        self._credit = 0.0
        self._trainer = context.trainer(update, context.cfg.miner.model_copy(update={"steps": 0}))
        self.sampling = SamplingRate(len(context.edge.model.classes))

    def decide(self, view: EdgeView) -> Decision:
        """Upload at regular intervals that follow the sampling rate."""
        share = self._max_share * self.sampling.rate
        self._credit += share
        upload = self._credit >= 1.0 - 1e-9
        self._credit -= upload
        return Decision(upload=upload, for_answer=False, prob_upload=share)

    def on_label(self, label: LabeledFrame) -> None:
        """Add a labeled frame to the buffer, and adapt the rate."""
        super().on_label(label)
        self.sampling.on_label(label.answer.labels)


class Ams(Sampled):
    """ams: the cloud trains a copy of the edge model on sampled frames and pushes the weights that changed most.

    Paper: AMS, arXiv 2006.06628, and its code. Rule: sampled frames are uploaded at an adaptive rate and labeled by a
    teacher; every 10 s a copy is trained, and the tenth of its weights with the largest first step is pushed as a bit
    mask and float16 values; while the mean of the last 5 rates is below 0.25 the interval grows by 2 s per update, up
    to 6 times 10 s, and above 0.35 it returns to 10 s. Differs: the maximum sampling rate is the run's upload_rate
    instead of one frame per second; buffer, optimizer and steps are the run's, so that all trainers have one budget.
    """

    def __init__(self, context: StrategyContext) -> None:
        never = 1 << 30
        changes = {"push": "delta", "push_frac": PUSH_FRAC, "every_frames": never, "every_s": TRAIN_EVERY_S}
        super().__init__(context, context.cfg.update.model_copy(update=changes))
        self._rates: deque[float] = deque(maxlen=5)
        self._interval_s = TRAIN_EVERY_S
        self._last_s = 0.0

    def due(self, now_s: float) -> bool:
        """Return whether the interval has passed and there are new labels."""
        return now_s - self._last_s >= self._interval_s and self._trainer.due(now_s)

    def update(self, now_s: float) -> UpdateResult:
        """Train, and adapt the interval."""
        self._last_s = now_s
        self._rates.append(self.sampling.rate)
        mean = sum(self._rates) / len(self._rates)
        if mean > WAKE_ABOVE:
            self._interval_s = TRAIN_EVERY_S
        elif mean < SLEEP_BELOW:
            self._interval_s = min(MAX_SLEEP * TRAIN_EVERY_S, self._interval_s + SLEEP_STEP_S)
        return super().update(now_s)


class Shoggoth(Sampled):
    """shoggoth: the edge trains itself; the cloud only labels sampled frames and sends the labels to the edge.

    Paper: Shoggoth, DAC 2023. Rule: adaptive frame sampling, labels from the cloud's model, training at the edge in
    small batches with replay. Constants: not in the abstract; the sampling rule is that of AMS, the training budget is
    the run's. Differs: whole images are replayed, where Shoggoth replays inner activations; while the edge trains, its
    passes take twice as long (ours).
    """

    trains_at = "edge"

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context, context.cfg.update)
