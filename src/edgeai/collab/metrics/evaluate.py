"""Evaluation of a run, accumulated frame by frame in memory that does not grow with the stream.

Quality and cost are computed over all frames, per drift segment, and per time window. There are at most `max_windows`
windows: if more are needed, adjacent windows are merged and the window length doubles. Merging is exact because all
counts are sums.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from edgeai.collab.config.playback import EvaluateConfig
from edgeai.collab.metrics.confusion import Counts, SegMetrics, frame_loss, seg_metrics
from edgeai.collab.metrics.latency import LatencyHistogram, LatencySummary
from edgeai.collab.metrics.risk_bounds import RiskSplit, RiskSum, upload_rate_bound
from edgeai.core.report.fields import About, about


@dataclass(frozen=True)
class FrameOutcome:
    """Result of one complete frame."""

    time_s: float
    """Capture time since the start of the stream."""
    segment: str
    """Drift segment of the frame."""
    answer: Literal["edge", "cloud"]
    """Source of the answer that counted at the deadline."""
    uploaded: bool
    missed_deadline: bool
    """The frame was uploaded and the cloud's answer was late or missing."""
    latency_s: float
    """Time from capture to the final answer."""
    up_bytes: int
    down_bytes: int
    counts: Counts | None
    """Confusion matrix of the final answer [C,C]; None without ground truth."""
    loss_edge: float | None = None
    """`frame_loss` of the edge's answer, with ground truth."""
    loss_cloud: float | None = None
    """`frame_loss` of the cloud's answer, if known for every frame and not only for uploaded ones."""


@dataclass(frozen=True)
class Part:
    """Quality and cost of a drift segment, of a window of time, or of everything."""

    COMPUTED: ClassVar = {
        "upload_rate": About("upload rate", "%", "share of frames that arrived at the cloud", "min"),
    }

    name: str = field(metadata=about("segment"))
    begin_s: float = field(metadata=about("begins"))
    """First frame of a segment, start of a window."""
    num_frames: int = field(metadata=about("frames"))
    num_uploads: int = field(metadata=about("uploads"))
    num_missed: int = field(
        metadata=about("missed deadlines", best="min", meaning="frames whose cloud answer arrived too late or never")
    )
    up_bytes: int = field(metadata=about("uplink", best="min", meaning="frames and headers"))
    down_bytes: int = field(metadata=about("downlink", best="min", meaning="answers, pushed models and headers"))
    quality: SegMetrics | None = field(metadata=about(""))
    """None if no frame had labels."""

    @property
    def upload_rate(self) -> float:
        """Share of frames that were uploaded."""
        return self.num_uploads / self.num_frames if self.num_frames else 0.0


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a run."""

    classes: tuple[str, ...] = field(metadata=about("classes"))
    total: Part = field(metadata=about(""))
    segments: tuple[Part, ...] = field(metadata=about("drift segments"))
    """In order of appearance."""
    windows: tuple[Part, ...] = field(metadata=about("windows of time"))
    """In order of time; windows without a frame are left out."""
    window_s: float = field(metadata=about("window length"))
    latency: LatencySummary | None = field(metadata=about("latency"))
    """From the frame to the answer shown."""
    upload_latency: LatencySummary | None = field(metadata=about("latency of cloud answers"))
    """From the frame to the cloud answer shown."""
    upload_rate_bound: float | None = field(
        metadata=about(
            "upload rate, error bound",
            unit="%",
            meaning="half-width of the 95% confidence interval of the upload rate, assuming independent frames",
        )
    )
    risk: RiskSplit | None = field(metadata=about("risk"))
    """None unless the losses of edge and cloud were given."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for report.json."""
        document = asdict(self)
        for part, plain in zip(
            (self.total, *self.segments, *self.windows),
            (document["total"], *document["segments"], *document["windows"]),
            strict=True,
        ):
            plain["upload_rate"] = part.upload_rate
        if self.risk is not None:
            document["risk"] |= {"residual": self.risk.residual, "gain": self.risk.gain}
        return document


@dataclass
class _Tally:
    """Counts of a set of frames."""

    counts: Counts
    begin_s: float = 0.0
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(5, dtype=np.int64))
    """Frames, uploads, missed, bytes up, bytes down."""

    def add(self, outcome: FrameOutcome) -> None:
        self.numbers += (1, outcome.uploaded, outcome.missed_deadline, outcome.up_bytes, outcome.down_bytes)
        if outcome.counts is not None:
            self.counts += outcome.counts

    def join(self, other: _Tally) -> None:
        self.numbers += other.numbers
        self.counts += other.counts

    def part(self, name: str) -> Part:
        frames, uploads, missed, up_bytes, down_bytes = (int(number) for number in self.numbers)
        quality = seg_metrics(self.counts)
        return Part(name, self.begin_s, frames, uploads, missed, up_bytes, down_bytes, quality)


class Evaluator:
    """Accumulates the outcomes of a run, in any order.

    Args:
        classes: Names of the C classes.
        config: Window settings.
    """

    def __init__(self, classes: tuple[str, ...], config: EvaluateConfig) -> None:
        self._classes = classes
        self._max_windows = config.max_windows
        self._window_s = config.window_s
        self._total = self._new_tally()
        self._segments: dict[str, _Tally] = {}
        self._windows: dict[int, _Tally] = {}
        self._latency, self._upload_latency = LatencyHistogram(), LatencyHistogram()
        self._risk = RiskSum()

    def add(self, outcome: FrameOutcome) -> None:
        """Add a frame."""
        if outcome.segment not in self._segments:
            self._segments[outcome.segment] = self._new_tally(outcome.time_s)
        for tally in (self._total, self._segments[outcome.segment], self._window(outcome.time_s)):
            tally.add(outcome)
        self._latency.add(outcome.latency_s)
        if outcome.answer == "cloud":
            self._upload_latency.add(outcome.latency_s)
        loss = None if outcome.counts is None else frame_loss(outcome.counts)
        if loss is not None and outcome.loss_edge is not None and outcome.loss_cloud is not None:
            self._risk.add(
                stayed=outcome.answer == "edge",
                loss_system=loss,
                loss_edge=outcome.loss_edge,
                loss_cloud=outcome.loss_cloud,
            )

    def add_bytes(self, time_s: float, segment: str, *, up_bytes: int = 0, down_bytes: int = 0) -> None:
        """Add bytes that belong to no single frame, such as those of a pushed model."""
        if segment not in self._segments:
            self._segments[segment] = self._new_tally(time_s)
        for tally in (self._total, self._segments[segment], self._window(time_s)):
            tally.numbers += (0, 0, 0, up_bytes, down_bytes)

    def evaluation(self) -> Evaluation:
        """Return the evaluation so far."""
        total = self._total.part("all")
        return Evaluation(
            classes=self._classes,
            total=total,
            segments=tuple(tally.part(name) for name, tally in self._segments.items()),
            windows=tuple(self._windows[index].part(str(index)) for index in sorted(self._windows)),
            window_s=self._window_s,
            latency=self._latency.summary(),
            upload_latency=self._upload_latency.summary(),
            upload_rate_bound=upload_rate_bound(total.num_frames) if total.num_frames else None,
            risk=self._risk.split(),
        )

    def _new_tally(self, begin_s: float = 0.0) -> _Tally:
        return _Tally(np.zeros((len(self._classes), len(self._classes)), dtype=np.int64), begin_s)

    def _window(self, time_s: float) -> _Tally:
        while int(time_s // self._window_s) >= self._max_windows:
            self._double_windows()
        index = int(time_s // self._window_s)
        if index not in self._windows:
            self._windows[index] = self._new_tally(index * self._window_s)
        return self._windows[index]

    def _double_windows(self) -> None:
        self._window_s *= 2
        joined: dict[int, _Tally] = {}
        for index, tally in self._windows.items():
            if index // 2 not in joined:
                joined[index // 2] = self._new_tally(index // 2 * self._window_s)
            joined[index // 2].join(tally)
        self._windows = joined
