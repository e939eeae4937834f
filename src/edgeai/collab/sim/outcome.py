"""Evaluation of completed frames: one record per frame, and sums for the report.

    final answer  the answer at the deadline: the cloud's, else the edge's, else that of an earlier frame
    loss          1 - mIoU of a frame's labels against the ground truth

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.config.playback import EvaluateConfig
from edgeai.collab.metrics.confusion import Counts, Labels, confusion, frame_loss, seg_metrics
from edgeai.collab.metrics.evaluate import Evaluation, Evaluator, FrameOutcome
from edgeai.collab.reports.frame_records import FrameRecord, RecordWriter
from edgeai.collab.reports.run_report import Alone
from edgeai.collab.sim.frame_state import FrameState
from edgeai.core.errors import EdgeAIError


class Outcomes:
    """Evaluates frames and accumulates the results.

    Args:
        classes: Names of the C classes.
        config: Deadline and windows.
        writer: Writes one record per frame.
        shadow: Returns the cloud's answer to a frame that was not uploaded; None skips this.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        config: EvaluateConfig,
        writer: RecordWriter,
        shadow: Callable[[FrameState], CloudAnswer] | None,
    ) -> None:
        self.num_classes = len(classes)
        self._deadline_s = config.deadline_s
        self._writer, self._shadow = writer, shadow
        self._evaluator = Evaluator(classes, config)
        self._edge_counts = self._no_counts()
        self._cloud_counts = self._no_counts()
        self._score_sum, self._num_scored = 0.0, 0
        self._edge_latency_s, self._num_edge = 0.0, 0
        self._is_edge_whole = self._is_cloud_whole = True

    def judge(self, state: FrameState, stale: Labels | None) -> None:
        """Fix the final answer at a frame's deadline.

        Args:
            state: Frame whose deadline has passed.
            stale: Latest answer to another frame; without any, the first class is taken for every pixel.
        """
        if state.shown is None:
            height, width = state.frame.image.shape[:2]
            state.shown = np.zeros((height, width), np.uint8) if stale is None else stale
        state.is_judged = True

    def latency_s(self, state: FrameState) -> float:
        """Return the time from capture to the final answer; the deadline if there was none."""
        return self._deadline_s if state.shown_s is None else state.shown_s - state.frame.time_s

    def complete(self, state: FrameState) -> None:
        """Evaluate and record a complete frame."""
        assert state.shown is not None
        counts = self._counts(state, state.shown)
        loss_edge, loss_cloud = self._losses(state, counts)
        outcome = FrameOutcome(
            time_s=state.frame.time_s,
            segment=state.frame.segment,
            answer="cloud" if state.answer == "cloud" else "edge",
            uploaded=state.is_uploaded,
            missed_deadline=self._missed(state),
            latency_s=self.latency_s(state),
            up_bytes=state.up_bytes,
            down_bytes=state.down_bytes,
            counts=counts,
            loss_edge=loss_edge,
            loss_cloud=loss_cloud,
        )
        self._evaluator.add(outcome)
        if state.decision.score is not None:
            self._score_sum, self._num_scored = self._score_sum + state.decision.score, self._num_scored + 1
        if state.edge_s is not None:
            self._edge_latency_s += state.edge_s - state.frame.time_s
            self._num_edge += 1
        loss = None if counts is None else frame_loss(counts)
        self._writer.write(_record(state, outcome, loss))

    def add_bytes(self, time_s: float, segment: str, *, down_bytes: int) -> None:
        """Count the bytes of a pushed version."""
        self._evaluator.add_bytes(time_s, segment, down_bytes=down_bytes)

    def evaluation(self) -> Evaluation:
        """Return the evaluation so far."""
        return self._evaluator.evaluation()

    def alone(self) -> Alone:
        """Return the quality of each side alone."""
        return Alone(
            edge=seg_metrics(self._edge_counts) if self._is_edge_whole else None,
            cloud=seg_metrics(self._cloud_counts) if self._is_cloud_whole else None,
        )

    @property
    def mean_score(self) -> float | None:
        """Mean score of all scored frames."""
        return self._score_sum / self._num_scored if self._num_scored else None

    @property
    def mean_edge_s(self) -> float | None:
        """Mean latency of the edge's own answers."""
        return self._edge_latency_s / self._num_edge if self._num_edge else None

    def _missed(self, state: FrameState) -> bool:
        """Return whether a requested cloud answer was not shown, or there was no answer at all."""
        unanswered = state.is_waited_for and state.is_uploaded and state.answer != "cloud"
        return unanswered or state.answer == "stale"

    def _losses(self, state: FrameState, counts: Counts | None) -> tuple[float | None, float | None]:
        """Return the losses of the edge (or of the stale answer in its place) and of the cloud; None if unknown."""
        if counts is None:
            return None, None
        loss_edge = None
        if state.edge_labels is not None:
            edge_counts = self._counts(state, state.edge_labels)
            assert edge_counts is not None
            self._edge_counts += edge_counts
            loss_edge = frame_loss(edge_counts if state.answer != "stale" else counts)
        else:
            self._is_edge_whole = False
            loss_edge = frame_loss(counts) if state.answer == "stale" else None
        cloud = self._cloud(state)
        if cloud is None:
            self._is_cloud_whole = False
            return loss_edge, None
        cloud_counts = self._counts(state, cloud.labels)
        assert cloud_counts is not None
        self._cloud_counts += cloud_counts
        return loss_edge, frame_loss(cloud_counts)

    def _cloud(self, state: FrameState) -> CloudAnswer | None:
        if state.cloud is None and self._shadow is not None:
            try:
                state.cloud = self._shadow(state)
            except EdgeAIError:  # a failing mask source; counted already if the frame was uploaded
                return None
        return state.cloud

    def _counts(self, state: FrameState, labels: Labels) -> Counts | None:
        truth = state.frame.labels
        return None if truth is None else confusion(truth, labels, self.num_classes)

    def _no_counts(self) -> Counts:
        return np.zeros((self.num_classes, self.num_classes), dtype=np.int64)


def _record(state: FrameState, outcome: FrameOutcome, loss: float | None) -> FrameRecord:
    decision = state.decision
    return FrameRecord(
        index=state.index,
        id=state.frame.id,
        segment=state.frame.segment,
        time_s=state.frame.time_s,
        version=state.version,
        score=decision.score,
        delta=state.delta,
        upload=decision.upload,
        explored=decision.is_explored,
        prob_upload=decision.prob_upload,
        for_answer=state.is_waited_for,
        uploaded=state.is_uploaded,
        drops=tuple(state.drops),
        quality=state.quality,
        scale=state.scale,
        up_bytes=state.up_bytes,
        down_bytes=state.down_bytes,
        edge_s=state.edge_s,
        reply_s=state.reply_s,
        answer=state.answer,
        latency_s=outcome.latency_s,
        missed_deadline=outcome.missed_deadline,
        loss=loss,
        loss_edge=outcome.loss_edge,
        loss_cloud=outcome.loss_cloud,
        num_painted=None if state.cloud is None else state.cloud.num_painted,
    )
