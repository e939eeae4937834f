"""The outcome of `edgeai collab run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.collab.metrics.confusion import SegMetrics
from edgeai.collab.metrics.evaluate import Evaluation, Part
from edgeai.collab.metrics.risk_bounds import Transfer
from edgeai.collab.wire.traffic import TrafficSummary
from edgeai.core.report.fields import About, about, described

LOGGED: Mapping[str, About] = {
    "upload_rate": described(Part, "upload_rate"),
    "miou": described(SegMetrics, "miou"),
}
"""Descriptions of the logged metrics, over the frames so far."""


@dataclass(frozen=True)
class Alone:
    """Quality over all frames if one side had answered every frame; None if it was not evaluated on every frame."""

    edge: SegMetrics | None = field(metadata=about("edge alone"))
    cloud: SegMetrics | None = field(metadata=about("cloud alone"))


@dataclass(frozen=True)
class UpdateEvent:
    """One update of the edge model, its miner, or both."""

    begin_s: float = field(metadata=about("begins"))
    end_s: float = field(metadata=about("trained at", hidden=True))
    version: int = field(metadata=about("version"))
    accepted: bool = field(metadata=about("edge model changed"))
    miner_accepted: bool = field(metadata=about("miner changed", meaning="the net that predicts the confidence score"))
    miou_before: float | None = field(
        metadata=about("mIoU before", unit="1", meaning="on held-out frames, against the cloud's labels")
    )
    miou_after: float | None = field(metadata=about("mIoU after", unit="1", meaning="a change for the worse is undone"))
    num_bytes: int = field(metadata=about("push"))
    """Header included; 0 without a push."""


@dataclass(frozen=True)
class Cost:
    """Cost of the simulation on this machine; differs from run to run, so it is not part of the report."""

    wall_s: float = field(metadata=about("wall time"))
    frames_per_s: float = field(metadata=about("frames per second"))
    """Frames of the stream per second, everything included."""
    peak_memory_bytes: int = field(metadata=about("peak memory", meaning="of the process, since its start"))


@dataclass(frozen=True)
class RunReport:
    """Outcome of one strategy on one stream."""

    strategy: str = field(metadata=about("strategy"))
    """Upload and training policy."""
    interrupted: bool = field(metadata=about("interrupted", meaning="the report covers the frames until then"))
    """Whether the run was interrupted; the report then covers the frames until then."""
    num_frames: int = field(metadata=about("frames"))
    """Frames played."""
    num_bad_frames: int = field(metadata=about("unreadable frames", meaning="left out"))
    """Unreadable frames, which are left out."""
    problems: tuple[str, ...] = field(metadata=about("problems"))
    """The first unreadable frames and frames that the cloud could not answer, one line each."""
    duration_s: float = field(metadata=about("stream time", meaning="until all transfers had arrived"))
    """Virtual time until all transfers had arrived."""
    evaluation: Evaluation = field(metadata=about(""))
    """Quality, uploads and latency of the whole run and of each drift segment."""
    alone: Alone = field(metadata=about(""))
    """The edge model in its state at each frame, and the cloud, if either had answered every frame."""
    transfer: Transfer = field(metadata=about(""))
    """Backward and forward transfer of the edge model over the drift segments, in mIoU."""
    traffic: TrafficSummary = field(metadata=about(""))
    """Bytes and messages by kind and direction."""
    num_updates: int = field(metadata=about("updates"))
    """Updates that were trained."""
    num_accepted: int = field(metadata=about("updates accepted", meaning="they changed the edge model"))
    """Updates that changed the edge model."""
    num_swaps: int = field(metadata=about("model swaps", meaning="versions that replaced the edge's model"))
    """Versions that replaced the edge's model."""
    updates: tuple[UpdateEvent, ...] = field(metadata=about("updates"))
    """All updates in order."""
    soft_latency_s: float | None = field(
        metadata=about("expected latency, soft", meaning="E[h] d1 + (1 - E[h]) d0, with the mean score as h")
    )
    """The paper's formula."""
    hard_latency_s: float | None = field(
        metadata=about("expected latency, hard", meaning="(1 - CUR) d1 + CUR d0, from the decisions made (ours)")
    )
    """(1 - CUR) d1 + CUR d0, from the decisions made (ours)."""
    edge_s: float = field(metadata=about("edge inference", meaning="time of one pass, configured or measured"))
    """Time of one pass of the edge model, configured or measured."""
    cloud_s: float = field(metadata=about("cloud inference", meaning="time of one answer, configured or measured"))
    """Time of one cloud answer, configured or measured."""
    cost: Cost = field(metadata=about("simulator"))
    """Wall time and memory of the simulation on this machine."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the same for the same config on every machine, if compute times are configured."""
        document = asdict(self)
        del document["cost"]
        document["evaluation"] = self.evaluation.to_json()
        return document
