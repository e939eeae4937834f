"""What a strategy is asked, what it hears, and the simplest one: the edge alone.

A strategy decides which frames go up and what is learned from the cloud's labels; queues, link, deadlines and
bookkeeping are the same for all and lie outside.

    route      before a frame: edge first, straight to the cloud, or cut within the edge model
    decide     after the edge's pass: stay or upload, for an answer or only for its label
    sent, judged, replied     what became of it
    labelled   the cloud has labelled a frame, where training happens
    due, update               training, and the version that comes of it

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.edge.device import EdgeOutput
from edgeai.collab.learning.trainer import UpdateResult
from edgeai.collab.learning.version import Version


@dataclass(frozen=True)
class EdgeFirst:
    """The edge looks at the frame and answers at once."""


@dataclass(frozen=True)
class CloudOnly:
    """The frame goes up unseen, and only the cloud answers."""


@dataclass(frozen=True)
class Split:
    """The edge model's first layers run at the edge, the rest in the cloud."""

    layer: int
    """Layers at the edge; 0 sends the frame itself."""
    edge_s: float
    cloud_s: float
    num_bytes: int
    """What crosses, header aside; with layer 0 the frame's own size counts instead."""


Route = EdgeFirst | CloudOnly | Split


@dataclass(frozen=True)
class EdgeView:
    """What is known at the edge when it decides."""

    index: int
    """Number of the frame."""
    image: np.ndarray
    """[H,W,3] uint8."""
    edge: EdgeOutput
    gain: Callable[[], float | None]
    """Loss of the edge minus loss of the cloud, which no real system knows; None without labels. For the oracle."""


@dataclass(frozen=True)
class Verdict:
    """What a strategy wants with a frame."""

    upload: bool = False
    score: float | None = None
    """Confidence in the edge's answer, in [0,1]."""
    for_answer: bool = True
    """The cloud's answer is wanted; else only its label, whenever the link has time."""
    is_explored: bool = False
    """It was easy, and goes up all the same."""
    prob_upload: float = 0.0
    importance: float = 1.0
    """Weight 1/p in training, clipped."""
    image: np.ndarray | None = None
    """Sent in place of the frame [H,W,3]."""


@dataclass(frozen=True)
class Labelled:
    """A frame with the cloud's labels, where training happens."""

    frame_id: str
    time_s: float
    """When it was taken."""
    jpeg: bytes
    answer: CloudAnswer
    verdict: Verdict
    version: int
    """Of the edge model when the frame was taken."""


class EdgeOnly:
    """The edge alone: nothing is uploaded, nothing is learned. The floor of every comparison.

    Rule: a constant, as Sedna ships it. Also the ground that the other strategies stand on: they say only what they do
    otherwise.
    """

    trains_at: Literal["cloud", "edge"] | None = None
    """Where labels teach; None: they teach nothing."""

    @property
    def delta(self) -> float | None:
        """The threshold now, if there is one."""
        return None

    def route(self, now_s: float) -> Route:
        """Where the next frame goes first."""
        return EdgeFirst()

    def decide(self, view: EdgeView) -> Verdict:
        """What becomes of a frame that the edge has looked at."""
        return Verdict()

    def sent(self, num_bytes: int, now_s: float, goodput_bps: float | None) -> None:
        """Hears of bytes that went up, and of the uplink's rate as measured; in order of time."""

    def judged(self, latency_s: float, now_s: float) -> None:
        """Hears of the latency of an answer at its deadline; in order of time."""

    def replied(self, verdict: Verdict, loss_edge: float) -> None:
        """Hears, at the edge, the share of pixels on which a cloud answer differs from the edge's."""

    def labelled(self, label: Labelled) -> None:
        """Hears of a labelled frame, where training happens."""

    def due(self, now_s: float) -> bool:
        """Whether it is time to train."""
        return False

    def update(self, now_s: float) -> tuple[UpdateResult, Version]:
        """Trains."""
        raise NotImplementedError("this strategy trains nothing")
