"""From a frame that is over to what is kept of it: a record, and sums for the report.

    stands    the answer at the deadline: the cloud's, else the edge's, else that of an earlier frame
    loss      1 - mIoU of a frame's labels against the truth

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.config.run import EvaluateConfig
from edgeai.collab.metrics.confusion import Counts, Labels, SegMetrics, confusion, frame_loss, seg_metrics
from edgeai.collab.metrics.evaluate import Evaluation, Evaluator, FrameOutcome
from edgeai.collab.reports.frame_records import FrameRecord, RecordWriter
from edgeai.collab.sim.frame_state import InPlay
from edgeai.core.errors import EdgeAIError


@dataclass(frozen=True)
class Alone:
    """Quality over all frames had one side answered every one; None if it was not asked about every one."""

    edge: SegMetrics | None
    cloud: SegMetrics | None


class Outcomes:
    """Judges frames and adds them up.

    Args:
        classes: Names of the C classes.
        config: Deadline and windows.
        writer: Keeps a line per frame.
        shadow: The cloud's answer to a frame that it was not asked about; None leaves that out.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        config: EvaluateConfig,
        writer: RecordWriter,
        shadow: Callable[[InPlay], CloudAnswer] | None,
    ) -> None:
        self._num_classes = len(classes)
        self._deadline_s = config.deadline_s
        self._writer, self._shadow = writer, shadow
        self._evaluator = Evaluator(classes, config)
        self._edge_counts = self._no_counts()
        self._cloud_counts = self._no_counts()
        self._score_sum, self._num_scored = 0.0, 0
        self._edge_latency_s, self._num_edge = 0.0, 0
        self._is_edge_whole = self._is_cloud_whole = True

    def judge(self, play: InPlay, stale: Labels | None) -> None:
        """At a frame's deadline: what stands if nothing was shown for it.

        Args:
            play: The frame.
            stale: What was shown last; None if nothing ever was, which counts as the first class everywhere.
        """
        if play.shown is None:
            height, width = play.frame.image.shape[:2]
            play.shown = np.zeros((height, width), np.uint8) if stale is None else stale
        play.is_judged = True

    def latency_s(self, play: InPlay) -> float:
        """From the frame to the answer that stands; the deadline if there was none."""
        return self._deadline_s if play.shown_s is None else play.shown_s - play.frame.time_s

    def complete(self, play: InPlay) -> None:
        """Counts a frame to which nothing more will happen."""
        assert play.shown is not None
        counts = self._counts(play, play.shown)
        loss_edge, loss_cloud = self._losses(play, counts)
        outcome = FrameOutcome(
            time_s=play.frame.time_s,
            segment=play.frame.segment,
            answer="cloud" if play.answer == "cloud" else "edge",
            uploaded=play.is_uploaded,
            missed_deadline=self._missed(play),
            latency_s=self.latency_s(play),
            up_bytes=play.up_bytes,
            down_bytes=play.down_bytes,
            counts=counts,
            loss_edge=loss_edge,
            loss_cloud=loss_cloud,
        )
        self._evaluator.add(outcome)
        if play.verdict.score is not None:
            self._score_sum, self._num_scored = self._score_sum + play.verdict.score, self._num_scored + 1
        if play.edge_s is not None:
            self._edge_latency_s += play.edge_s - play.frame.time_s
            self._num_edge += 1
        loss = None if counts is None else frame_loss(counts)
        self._writer.write(_record(play, outcome, loss))

    def add_bytes(self, time_s: float, segment: str, *, down_bytes: int) -> None:
        """Counts a pushed version."""
        self._evaluator.add_bytes(time_s, segment, down_bytes=down_bytes)

    def evaluation(self) -> Evaluation:
        """The figures so far."""
        return self._evaluator.evaluation()

    def alone(self) -> Alone:
        """Either side by itself."""
        return Alone(
            edge=seg_metrics(self._edge_counts) if self._is_edge_whole else None,
            cloud=seg_metrics(self._cloud_counts) if self._is_cloud_whole else None,
        )

    @property
    def mean_score(self) -> float | None:
        """Of all frames that were scored."""
        return self._score_sum / self._num_scored if self._num_scored else None

    @property
    def mean_edge_s(self) -> float | None:
        """Mean latency of the edge's own answers."""
        return self._edge_latency_s / self._num_edge if self._num_edge else None

    def _missed(self, play: InPlay) -> bool:
        """An answer of the cloud was wanted, sent for, and not shown; or there was none at all."""
        unanswered = play.is_waited_for and play.is_uploaded and play.answer != "cloud"
        return unanswered or play.answer == "stale"

    def _losses(self, play: InPlay, counts: Counts | None) -> tuple[float | None, float | None]:
        """Of the edge, or what stood in its place, and of the cloud; None where unknown."""
        if counts is None:
            return None, None
        loss_edge = None
        if play.edge_labels is not None:
            edge_counts = self._counts(play, play.edge_labels)
            assert edge_counts is not None
            self._edge_counts += edge_counts
            loss_edge = frame_loss(edge_counts if play.answer != "stale" else counts)
        else:
            self._is_edge_whole = False
            loss_edge = frame_loss(counts) if play.answer == "stale" else None
        cloud = self._cloud(play)
        if cloud is None:
            self._is_cloud_whole = False
            return loss_edge, None
        cloud_counts = self._counts(play, cloud.labels)
        assert cloud_counts is not None
        self._cloud_counts += cloud_counts
        return loss_edge, frame_loss(cloud_counts)

    def _cloud(self, play: InPlay) -> CloudAnswer | None:
        if play.cloud is None and self._shadow is not None:
            try:
                play.cloud = self._shadow(play)
            except EdgeAIError:  # a mask source that fails on this frame; the run has counted it if it was asked for
                return None
        return play.cloud

    def _counts(self, play: InPlay, labels: Labels) -> Counts | None:
        truth = play.frame.labels
        return None if truth is None else confusion(truth, labels, self._num_classes)

    def _no_counts(self) -> Counts:
        return np.zeros((self._num_classes, self._num_classes), dtype=np.int64)


def _record(play: InPlay, outcome: FrameOutcome, loss: float | None) -> FrameRecord:
    verdict = play.verdict
    return FrameRecord(
        index=play.index,
        id=play.frame.id,
        segment=play.frame.segment,
        time_s=play.frame.time_s,
        version=play.version,
        score=verdict.score,
        delta=play.delta,
        upload=verdict.upload,
        explored=verdict.is_explored,
        prob_upload=verdict.prob_upload,
        for_answer=play.is_waited_for,
        uploaded=play.is_uploaded,
        drops=tuple(play.drops),
        quality=play.quality,
        scale=play.scale,
        up_bytes=play.up_bytes,
        down_bytes=play.down_bytes,
        edge_s=play.edge_s,
        reply_s=play.reply_s,
        answer=play.answer,
        latency_s=outcome.latency_s,
        missed_deadline=outcome.missed_deadline,
        loss=loss,
        loss_edge=outcome.loss_edge,
        loss_cloud=outcome.loss_cloud,
        num_painted=None if play.cloud is None else play.cloud.num_painted,
    )
