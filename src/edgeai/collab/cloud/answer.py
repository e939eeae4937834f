"""The cloud's answer to one frame.

Shapes: H x W pixels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeai.collab.metrics.confusion import Labels


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's segmentation of one frame, compressed."""

    packed: bytes
    height: int
    width: int
    num_masks: int
    """Masks proposed."""
    num_painted: int
    """Masks painted."""

    @classmethod
    def of(
        cls, labels: Labels, weight: NDArray[np.float32], semantics: Labels, *, num_masks: int, num_painted: int
    ) -> CloudAnswer:
        """Compress an answer.

        Args:
            labels: Fused labels [H,W].
            weight: Training weight of each pixel in [0,1], kept to 1/255 [H,W].
            semantics: Labels before masks were painted [H,W].
            num_masks: Masks proposed.
            num_painted: Masks painted.
        """
        planes = np.stack([labels, np.rint(weight * 255).astype(np.uint8), semantics])
        height, width = labels.shape
        return cls(zlib.compress(planes.tobytes(), 1), height, width, num_masks, num_painted)

    @property
    def labels(self) -> Labels:
        """Fused labels [H,W]."""
        return self._planes()[0]

    @property
    def weight(self) -> NDArray[np.float32]:
        """Training weight of each pixel in [0,1], to 1/255 [H,W]."""
        return self._planes()[1].astype(np.float32) / 255

    @property
    def semantics(self) -> Labels:
        """Labels before masks were painted [H,W]."""
        return self._planes()[2]

    def _planes(self) -> NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(3, self.height, self.width)


Answerer = Callable[[bytes, tuple[int, int]], CloudAnswer]
"""Computes the answer from a frame's JPEG file and its height and width."""
