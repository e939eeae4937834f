"""The frame record and the stream protocol.

Shapes: H rows and W columns of a frame, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Frame:
    """One image of a stream, with its ground truth where there is one."""

    id: str
    """Unique in its stream: the file's path relative to the stream's folder, or the frame number."""
    time_s: float
    """Capture time, counted from the start of the stream."""
    image: Array  # [H, W, 3] uint8, RGB
    """Camera image, RGB."""
    labels: Array | None  # [H, W] uint8, class or IGNORE (255)
    """True class of each pixel; None where the source has no labels."""
    segment: str
    """Part of the stream that the frame belongs to, named after its drift."""
    depth_m: Array | None = None  # [H, W] float32, only from sources that know it
    """Distance of each pixel; None where the source does not know it."""


class Stream(Protocol):
    """A source of frames in capture order. Each call of `frames` restarts it and yields the same frames."""

    height: int
    """Rows of a frame."""
    width: int
    """Columns of a frame."""
    rate_hz: float
    """Frames per second."""
    num_frames: int | None
    """None if the length is known only at the end of the stream."""
    palette: Array
    """Color of each class [C, 3] uint8."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the label values."""
        ...

    @property
    def problems(self) -> list[str]:
        """One line for each frame that could not be read in the latest pass and was skipped."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in capture order, from the first one on."""
        ...
