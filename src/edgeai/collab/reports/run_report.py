"""The outcome of `edgeai collab run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeai.collab.metrics.evaluate import Evaluation
from edgeai.collab.metrics.theory import Transfer
from edgeai.collab.sim.outcome import Alone
from edgeai.collab.sim.training import UpdateEvent
from edgeai.collab.wire.traffic import TrafficSummary


@dataclass(frozen=True)
class Cost:
    """What the run cost this machine; differs from run to run, so it is no part of the report."""

    wall_s: float
    frames_per_s: float
    """Frames of the stream a second, everything included."""
    peak_memory_bytes: int
    """Of the process, from its start."""


@dataclass(frozen=True)
class RunReport:
    """What came of playing a stream with one strategy."""

    strategy: str
    interrupted: bool
    """It was stopped; all is of the frames until then."""
    num_frames: int
    num_bad_frames: int
    """Could not be read, and were left out."""
    problems: tuple[str, ...]
    """The first of those and of frames that the cloud could not answer, a line each."""
    duration_s: float
    """Of the stream, until all that was under way had arrived."""
    evaluation: Evaluation
    alone: Alone
    """The edge model as it was at each frame, and the cloud, if either had answered every frame."""
    transfer: Transfer
    """Backward and forward transfer of the edge model over the drift segments, in mIoU."""
    traffic: TrafficSummary
    num_updates: int
    num_accepted: int
    """Updates that changed the edge model."""
    num_swaps: int
    """Versions that the edge took up."""
    updates: tuple[UpdateEvent, ...]
    soft_latency_s: float | None
    """E[h] d1 + (1 - E[h]) d0: the paper's formula, with the mean score as h."""
    hard_latency_s: float | None
    """(1 - CUR) d1 + CUR d0, of the decisions that were made (ours)."""
    edge_s: float
    """Time of one pass at the edge, given or measured."""
    cloud_s: float
    """Time of one answer in the cloud, given or measured."""
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        """Plain values; the same for the same config, whatever machine it ran on, if compute times are given."""
        document = asdict(self)
        del document["cost"]
        document["evaluation"] = self.evaluation.to_json()
        return document
