"""The edge as the pipeline sees it: the output of one pass, and the protocol of a device.

Shapes: C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from edgeai.collab.config.policy import ScoreKind
from edgeai.collab.learning.version import Version
from edgeai.collab.metrics.confusion import Labels


@dataclass(frozen=True)
class EdgeOutput:
    """Output of one pass of the edge model."""

    labels: Labels
    """[H,W]."""
    probs: Tensor
    """[C,H,W]."""
    scores: Mapping[ScoreKind, float]
    """Classic confidence scores."""
    mined: float
    """Confidence h of the trained miner."""
    version: int
    """Version of the edge model."""


class EdgeNode(Protocol):
    """A device with a deployed model that new versions replace."""

    num_swaps: int
    """Versions installed so far."""

    def run(self, image: np.ndarray) -> EdgeOutput:
        """Run the current version on a frame [H,W,3]."""

    def apply(self, net_push: bytes, miner_push: bytes, version: int) -> None:
        """Install an update that arrived over the link; an empty push leaves its part unchanged."""

    def load(self, version: Version) -> None:
        """Install a version that was trained on the device."""
