"""The strategy interface: which frames are uploaded, and what is learned from the cloud's labels.

Queues, link, deadlines and bookkeeping are the same for all strategies and live outside. The pipeline calls

    route       before a frame: edge first, straight to the cloud, or a partition of the edge model
    decide      after the edge's pass: upload or not, for an answer or only for a label
    on_sent, on_deadline, on_reply    after an upload, at a frame's deadline, after a cloud answer
    on_label    where training happens, for each frame that the cloud labeled
    due, update                       training, and the version it produces

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.edge.node import EdgeOutput
from edgeai.collab.learning.version import UpdateResult


@dataclass(frozen=True)
class EdgeFirst:
    """The edge model processes the frame and answers at once."""


@dataclass(frozen=True)
class CloudOnly:
    """The frame is uploaded without an edge pass; only the cloud answers."""


@dataclass(frozen=True)
class Split:
    """The edge model's first layers run at the edge, the others in the cloud."""

    layer: int
    """Number of layers at the edge; 0 sends the frame itself."""
    edge_s: float
    cloud_s: float
    num_bytes: int
    """Size of the activations, without header; with layer 0 the size of the JPEG file is used instead."""


Route = EdgeFirst | CloudOnly | Split


@dataclass(frozen=True)
class EdgeView:
    """Information at the edge for the decision on a frame."""

    index: int
    """Number of the frame."""
    image: np.ndarray
    """[H,W,3] uint8."""
    edge: EdgeOutput
    gain: Callable[[], float | None]
    """Loss of the edge minus loss of the cloud, by the ground truth; None without labels. Only for the oracle."""


@dataclass(frozen=True)
class Decision:
    """A strategy's decision on one frame."""

    upload: bool = False
    score: float | None = None
    """Confidence in the edge's answer, in [0,1]."""
    for_answer: bool = True
    """The cloud's answer is wanted; otherwise only its label, whenever the link is idle."""
    is_explored: bool = False
    """The frame is easy and uploaded for exploration."""
    prob_upload: float = 0.0
    importance: float = 1.0
    """Weight 1/p in training, clipped."""
    image: np.ndarray | None = None
    """Image sent in place of the frame [H,W,3]."""


@dataclass(frozen=True)
class LabeledFrame:
    """A frame with the cloud's labels, where training happens."""

    frame_id: str
    time_s: float
    """Capture time."""
    jpeg: bytes
    answer: CloudAnswer
    decision: Decision
    version: int
    """Version of the edge model when the frame was captured."""


class Strategy:
    """Base class of all strategies. By default every frame stays at the edge and nothing is trained."""

    trains_at: Literal["cloud", "edge"] | None = None
    """Place of training; None for strategies that train nothing."""
    uses_cloud_models: bool = True
    """The cloud answers with its own models; otherwise it completes the edge model's pass."""

    @property
    def delta(self) -> float | None:
        """The current threshold, if there is one."""
        return None

    def route(self, now_s: float) -> Route:
        """Return where the next frame is processed first."""
        return EdgeFirst()

    def decide(self, view: EdgeView) -> Decision:
        """Decide on a frame after the edge's pass."""
        return Decision()

    def on_sent(self, num_bytes: int, now_s: float, goodput_bps: float | None) -> None:
        """Process an upload and the measured uplink rate; called in time order."""

    def on_deadline(self, latency_s: float, now_s: float) -> None:
        """Process the latency of a frame's answer at its deadline; called in time order."""

    def on_reply(self, decision: Decision, loss_edge: float) -> None:
        """Process a cloud answer at the edge.

        Args:
            decision: Decision on the frame.
            loss_edge: Share of pixels in which the cloud's answer differs from the edge's.
        """

    def on_label(self, label: LabeledFrame) -> None:
        """Process a labeled frame, where training happens."""

    def due(self, now_s: float) -> bool:
        """Return whether an update should start."""
        return False

    def update(self, now_s: float) -> UpdateResult:
        """Train, and return the result with the current version."""
        raise NotImplementedError("this strategy trains nothing")
