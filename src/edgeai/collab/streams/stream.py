"""Streams: frames in the order in which a camera takes them, with labels where there are any.

Shapes: H rows and W columns of a frame, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from edgeai.collab.streams.classes import palette_of

if TYPE_CHECKING:
    from edgeai.collab.config.streams import StreamConfig

Array = np.ndarray


@dataclass(frozen=True)
class Frame:
    """One picture of a stream."""

    id: str
    """Unique in its stream: a file's path below the stream's folder, or the number of the frame."""
    time_s: float
    """When the camera took it, counted from the start of the stream."""
    image: Array  # [H, W, 3] uint8, RGB
    labels: Array | None  # [H, W] uint8, class or IGNORE (255)
    segment: str
    """Part of the stream that it belongs to, named after its drift."""
    depth_m: Array | None = None  # [H, W] float32, only where the stream knows it


class Stream(Protocol):
    """Something that gives frames. Every call of `frames` starts again and gives the same frames."""

    height: int
    width: int
    rate_hz: float
    num_frames: int | None
    """None where only the end of the stream tells."""
    palette: Array
    """Colour of each class [C, 3] uint8."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def problems(self) -> list[str]:
        """One line for each frame that could not be read in the latest pass and was left out."""
        ...

    def frames(self) -> Iterator[Frame]: ...


def build_stream(config: StreamConfig, seed: int) -> Stream:
    """Opens the source that the config names and lays its drift over it.

    Args:
        config: Source and drift schedule.
        seed: Of the generated street and of everything random in the drift.

    Raises:
        UsageError: The source is missing, empty or has labels outside its map, or cannot drift as asked.
        EdgeAIError: A package that it needs is missing.
    """
    from edgeai.collab.config.streams import StreetConfig
    from edgeai.collab.streams.drift import DriftedStream  # these take Frame from here
    from edgeai.collab.streams.folders import build_folder
    from edgeai.collab.street.drive import StreetStream

    source = config.source
    stream: Stream = StreetStream(source, seed) if isinstance(source, StreetConfig) else build_folder(source)
    return DriftedStream(stream, config.drift, seed) if config.drift else stream


def class_colours(classes: tuple[str, ...]) -> Array:
    """Palette for these classes [C, 3] uint8."""
    return np.array(palette_of(classes), dtype=np.uint8)


def paint_labels(labels: Array, palette: Array) -> Array:
    """Labels in colour [H, W, 3] uint8; ignored pixels are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette  # the rest, IGNORE included, stays black
    return np.asarray(table[labels])


def contact_sheet(stream: Stream, *, every: int, columns: int, scale: int = 1) -> Array:
    """Every so many frames of a stream side by side, each above its labels.

    Args:
        stream: Played once from start to end.
        every: Distance between the frames shown.
        columns: Frames in a row of the sheet.
        scale: How many times larger each pixel is drawn.

    Returns:
        One picture [.., columns * W * scale, 3] uint8; places without a frame or labels are grey.
    """
    blank = np.full((stream.height, stream.width, 3), 128, dtype=np.uint8)
    tiles = []
    for index, frame in enumerate(stream.frames()):
        if index % every == 0:
            below = blank if frame.labels is None else paint_labels(frame.labels, stream.palette)
            tiles.append(np.vstack([frame.image, below]))
    tiles += [np.vstack([blank, blank])] * (-len(tiles) % columns or (columns if not tiles else 0))
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows).repeat(scale, axis=0).repeat(scale, axis=1)


def resized(image: Array, height: int, width: int, *, smooth: bool) -> Array:
    """Another size: pictures smoothly, labels by the nearest pixel."""
    if image.shape[:2] == (height, width):
        return image
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(image).resize((width, height), method))
