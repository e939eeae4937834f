"""A frame on its way through the system, from its capture to its last trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.edge.device import EdgeOutput
from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.strategies.strategy import EdgeFirst, Route, Split, Verdict
from edgeai.collab.streams.stream import Frame

Drop = Literal["", "edge busy", "breaker", "queue", "expired", "spool", "cloud busy", "cloud error"]
"""Why a frame was not looked at by the edge, or not answered by the cloud."""


@dataclass(eq=False)
class InPlay:
    """All that is known of a frame so far."""

    frame: Frame
    index: int
    """Its number in the stream, frames that could not be read left out."""
    deadline_s: float
    """When its answer is judged."""
    route: Route = field(default_factory=EdgeFirst)
    edge: EdgeOutput | None = None
    """Of its pass; let go once it is decided upon, because it is large."""
    edge_labels: Labels | None = None
    """[H,W]."""
    edge_s: float | None = None
    """When the edge's answer was out."""
    version: int = 0
    """Of the edge model that looked at it."""
    verdict: Verdict = field(default_factory=Verdict)
    delta: float | None = None
    """The threshold then."""
    drops: list[Drop] = field(default_factory=list)
    quality: int | None = None
    scale: float | None = None
    is_uploaded: bool = False
    """It arrived at the cloud."""
    is_waited_for: bool = False
    """An answer of the cloud was asked for."""
    is_sent: bool = False
    """The request for that answer was handed to the link."""
    shown: Labels | None = None
    """Answer that stands."""
    shown_s: float | None = None
    """When it was out."""
    answer: Literal["edge", "cloud", "stale"] = "stale"
    """Whose it is; stale: that of an earlier frame, because there was none in time."""
    cloud: CloudAnswer | None = None
    reply_s: float | None = None
    """When the cloud's answer arrived at the edge."""
    up_bytes: int = 0
    down_bytes: int = 0
    is_judged: bool = False
    """Its deadline has passed."""
    num_open: int = 0
    """Things under way that still belong to it."""

    @property
    def is_complete(self) -> bool:
        """Nothing more will happen to it."""
        return self.is_judged and not self.num_open


@dataclass(eq=False)
class Request:
    """A frame, or what a part of the edge model made of it, on its way to the cloud."""

    play: InPlay
    jpeg: bytes
    num_bytes: int
    """On the link, header included."""
    for_answer: bool
    """An answer is wanted; else only its label, for training."""
    split: Split | None = None
    """The cloud finishes the edge model's pass instead of answering with its own models."""
