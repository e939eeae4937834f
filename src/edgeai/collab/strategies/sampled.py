"""AMS and Shoggoth: no frame is answered by the cloud; sampled frames are labelled there and the edge model follows."""

from __future__ import annotations

import math
from collections import deque

from edgeai.collab.config.policy import UpdateConfig
from edgeai.collab.learning.trainer import UpdateResult
from edgeai.collab.learning.version import Version
from edgeai.collab.metrics.confusion import Labels, confusion, seg_metrics
from edgeai.collab.strategies.parts import Parts
from edgeai.collab.strategies.strategy import EdgeView, Labelled, Verdict
from edgeai.collab.strategies.taught import Taught

TRAIN_EVERY_S = 10.0
PUSH_FRAC = 0.1
LEAST_RATE, RATE_STEP, RATE_SLOPE, RATE_TARGET = 0.1, 0.2, 20.0, 0.6
SLEEP_BELOW, WAKE_ABOVE, SLEEP_STEP_S, MAX_SLEEP = 0.25, 0.35, 2.0, 6.0


class SamplingRate:
    """AMS' adaptive sampling, as a share of the largest rate.

    rate <- clip(rate - 0.2 tanh(20 (phi - 0.6)), 0.1, 1), phi the mIoU of consecutive labels of the cloud: the less a
    scene changes, the fewer frames are sampled.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._before: Labels | None = None
        self.rate = 1.0

    def labelled(self, labels: Labels) -> None:
        """Hears of the next sampled frame's labels [H,W]."""
        before, self._before = self._before, labels
        metrics = None if before is None else seg_metrics(confusion(before, labels, self._num_classes))
        if metrics is not None:
            step = RATE_STEP * math.tanh(RATE_SLOPE * (metrics.miou - RATE_TARGET))
            self.rate = min(1.0, max(LEAST_RATE, self.rate - step))


class Sampled(Taught):
    """Frames go up at an adaptive rate, for their labels alone.

    Args:
        parts: What it is built from.
        update: How it trains.
    """

    def __init__(self, parts: Parts, update: UpdateConfig) -> None:
        self._max_share = parts.cfg.upload_rate
        self._credit = 0.0
        self._updater = parts.updater(update, parts.cfg.miner.model_copy(update={"steps": 0}))
        self.sampling = SamplingRate(len(parts.edge.model.classes))

    def decide(self, view: EdgeView) -> Verdict:
        """Uploads every so manieth frame."""
        share = self._max_share * self.sampling.rate
        self._credit += share
        upload = self._credit >= 1.0 - 1e-9
        self._credit -= upload
        return Verdict(upload=upload, for_answer=False, prob_upload=share)

    def labelled(self, label: Labelled) -> None:
        """Remembers it, and adapts the rate."""
        super().labelled(label)
        self.sampling.labelled(label.answer.labels)


class Ams(Sampled):
    """ams: the cloud trains a copy of the edge model on sampled frames and pushes the weights that changed most.

    Paper: AMS, arXiv 2006.06628, and its code. Rule: sampled frames go up at an adaptive rate, a teacher labels them,
    every 10 s a copy is trained and the tenth of its weights with the largest first step travels as bit mask and
    float16 values; while the mean of the last 5 rates is below 0.25 the interval grows by 2 s a step to at most 6
    times, and above 0.35 it is 10 s again. Differs: the largest sampling rate is the run's upload_rate instead of one
    frame a second, and buffer, optimiser and steps are the run's shared budget, so that all trainers have the same.
    """

    def __init__(self, parts: Parts) -> None:
        never = 1 << 30
        changes = {"push": "delta", "push_frac": PUSH_FRAC, "every_frames": never, "every_s": TRAIN_EVERY_S}
        super().__init__(parts, parts.cfg.update.model_copy(update=changes))
        self._rates: deque[float] = deque(maxlen=5)
        self._interval_s = TRAIN_EVERY_S
        self._last_s = 0.0

    def due(self, now_s: float) -> bool:
        """Every interval."""
        return now_s - self._last_s >= self._interval_s and self._updater.due(now_s)

    def update(self, now_s: float) -> tuple[UpdateResult, Version]:
        """Trains, and sleeps longer or wakes up."""
        self._last_s = now_s
        self._rates.append(self.sampling.rate)
        mean = sum(self._rates) / len(self._rates)
        if mean > WAKE_ABOVE:
            self._interval_s = TRAIN_EVERY_S
        elif mean < SLEEP_BELOW:
            self._interval_s = min(MAX_SLEEP * TRAIN_EVERY_S, self._interval_s + SLEEP_STEP_S)
        return super().update(now_s)


class Shoggoth(Sampled):
    """shoggoth: the edge trains itself; the cloud only labels sampled frames and sends the labels down.

    Paper: Shoggoth, DAC 2023. Rule: adaptive frame sampling, labels by the cloud's model, training at the edge in small
    batches with replay. Constants: not in the abstract; the sampling rule is AMS' and the training budget is the run's.
    Differs: whole images are replayed, where Shoggoth replays inner activations; while the edge trains, one of its
    passes takes twice as long (ours).
    """

    trains_at = "edge"

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, parts.cfg.update)
