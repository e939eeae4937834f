"""The state of a frame from capture to record, and the messages about it on the link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.edge.node import EdgeOutput
from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.strategies.strategy import Decision, EdgeFirst, Route, Split
from edgeai.collab.streams.stream import Frame

Drop = Literal["", "edge busy", "breaker", "queue", "expired", "spool", "cloud busy", "cloud error"]
"""Reason why the edge did not process a frame, or the cloud did not answer it."""


@dataclass(eq=False)
class FrameState:
    """Everything known about a frame so far."""

    frame: Frame
    index: int
    """Number in the stream, unreadable frames not counted."""
    deadline_s: float
    """Time at which the frame's answer is evaluated."""
    route: Route = field(default_factory=EdgeFirst)
    edge: EdgeOutput | None = None
    """Output of the edge's pass; released after the decision because it is large."""
    edge_labels: Labels | None = None
    """[H,W]."""
    edge_s: float | None = None
    """Time of the edge's answer."""
    version: int = 0
    """Version of the edge model that processed the frame."""
    decision: Decision = field(default_factory=Decision)
    delta: float | None = None
    """Threshold at the decision."""
    drops: list[Drop] = field(default_factory=list)
    quality: int | None = None
    scale: float | None = None
    is_uploaded: bool = False
    """The frame arrived at the cloud."""
    is_waited_for: bool = False
    """A cloud answer was requested."""
    is_sent: bool = False
    """The request for a cloud answer was passed to the link."""
    shown: Labels | None = None
    """Answer that counts at the deadline."""
    shown_s: float | None = None
    """Time of that answer."""
    answer: Literal["edge", "cloud", "stale"] = "stale"
    """Source of that answer; stale: the answer to an earlier frame, because there was none in time."""
    cloud: CloudAnswer | None = None
    reply_s: float | None = None
    """Time at which the cloud's answer arrived at the edge."""
    up_bytes: int = 0
    down_bytes: int = 0
    is_judged: bool = False
    """The deadline has passed."""
    num_open: int = 0
    """Number of pending steps of this frame."""

    @property
    def is_complete(self) -> bool:
        """The deadline has passed and no step is pending."""
        return self.is_judged and not self.num_open


@dataclass(eq=False)
class Request:
    """A frame, or activations of the edge model, on the way to the cloud."""

    state: FrameState
    jpeg: bytes
    num_bytes: int
    """Size on the link, header included."""
    for_answer: bool
    """An answer is wanted; otherwise only its label, for training."""
    split: Split | None = None
    """Partition of the edge model that the cloud completes; None: the cloud answers with its own models."""


@dataclass(frozen=True)
class Reply:
    """A message from the cloud about one request."""

    request: Request
    num_bytes: int
    """Size on the link, header included."""
    frees_slot: bool
    """The request occupied one of the slots in flight."""
    labels: Labels | None = None
    """[H,W]; None: there is no answer."""
    answer: CloudAnswer | None = None
    """Answer of the cloud's models, for training."""
