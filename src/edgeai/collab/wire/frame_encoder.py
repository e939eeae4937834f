"""JPEG compression of frames, with quality and scale adapted to the link rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeai.collab.wire.codec import encode_image

COARSER_STEPS: tuple[tuple[int, float], ...] = ((75, 1.0), (75, 0.5))
"""JPEG quality and scale below the configured quality; coarse frames cost less accuracy than missing ones."""


@dataclass(frozen=True)
class EncodedFrame:
    """A compressed frame."""

    jpeg: bytes
    quality: int
    scale: float


class FrameEncoder:
    """Compresses frames at the first quality and scale whose latest size fits the link.

    Args:
        quality: Configured JPEG quality.
        adapt: Reduce quality and scale on a slow link; otherwise always use `quality`.
        budget_s: Maximum transmission time of a frame.
    """

    def __init__(self, quality: int, *, adapt: bool, budget_s: float) -> None:
        coarser = [step for step in COARSER_STEPS if step[0] <= quality] if adapt else []
        self._steps = [(quality, 1.0), *coarser]
        self._budget_s = budget_s
        self._sizes: dict[tuple[int, float], int] = {}

    def encode(self, image: np.ndarray, goodput_bps: float | None) -> EncodedFrame:
        """Compress a frame.

        Args:
            image: RGB frame [H,W,3] uint8.
            goodput_bps: Measured uplink rate; None if unknown.
        """
        step = self._choose(goodput_bps)
        jpeg = encode_image(image, quality=step[0], scale=step[1])
        self._sizes[step] = len(jpeg)
        return EncodedFrame(jpeg, *step)

    def _choose(self, goodput_bps: float | None) -> tuple[int, float]:
        """Return quality and scale; a step without a known size is assumed to fit."""
        for step in self._steps[:-1]:
            if goodput_bps is None or 8 * self._sizes.get(step, 0) / goodput_bps <= self._budget_s:
                return step
        return self._steps[-1]
