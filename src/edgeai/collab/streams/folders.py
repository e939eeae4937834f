"""Streams from image files, with or without labels.

Before the first frame, the stream checks that there are images, that each has labels, and that the label values of some
of them are in the map. A file that cannot be read later is skipped and counted.

Shapes: H rows and W columns of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeai.collab.streams.images import class_colors, resized
from edgeai.collab.streams.stream import Frame
from edgeai.core.errors import EdgeAIError, UsageError

Array = np.ndarray

_NUM_CHECKED = 16  # label files checked at the start
_UNMAPPED = 254


@dataclass(frozen=True)
class Item:
    """Files of one frame."""

    id: str
    image: Path
    labels: Path | None
    segment: str = "clear"


class FolderStream:
    """A stream of frames from image files.

    Args:
        items: Files of the frames in stream order, at least one.
        classes: Names of the classes.
        label_map: Label value to class number or IGNORE; all other values are errors.
        size: Height and width to which frames are resized; None takes the size of the first image.
        rate_hz: Frames per second.

    Raises:
        UsageError: The first image or its labels cannot be read, or a label value is not in the map.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        classes: tuple[str, ...],
        label_map: Mapping[int, int],
        size: tuple[int, int] | None,
        rate_hz: float,
    ) -> None:
        self.classes, self.rate_hz = classes, rate_hz
        self.palette = class_colors(classes)
        self.problems: list[str] = []
        self.num_frames: int | None = len(items)
        self._items = list(items)
        self._table = np.full(256, _UNMAPPED, dtype=np.uint8)
        for value, label in label_map.items():
            self._table[value] = label
        try:
            self.height, self.width = size or _read_image(items[0].image).shape[:2]
            for index in sorted({k * (len(items) - 1) // (_NUM_CHECKED - 1) for k in range(_NUM_CHECKED)}):
                self._read_labels(items[index])
        except _BrokenFileError as error:
            raise UsageError(str(error), hint=error.hint) from None

    def frames(self) -> Iterator[Frame]:
        """Yield all readable frames."""
        self.problems.clear()
        for index, item in enumerate(self._items):
            try:
                image = _read_image(item.image)
                labels = self._read_labels(item)
                if labels is not None and labels.shape != image.shape[:2]:
                    raise _BrokenFileError(f"{item.labels}: {_size(labels)}, but its image is {_size(image)}")
            except _BrokenFileError as error:
                self.problems.append(str(error))
                continue
            yield Frame(
                item.id,
                index / self.rate_hz,
                resized(image, self.height, self.width, smooth=True),
                None if labels is None else resized(labels, self.height, self.width, smooth=False),
                item.segment,
            )

    def _read_labels(self, item: Item) -> Array | None:
        """Return the class of every pixel [H, W] uint8, or None for a stream without labels."""
        if item.labels is None:
            return None
        values = _read_values(item.labels)
        labels = self._table[values]
        if (labels == _UNMAPPED).any():
            strange = sorted(set(np.unique(values[labels == _UNMAPPED]).tolist()))
            raise _BrokenFileError(
                f"{item.labels}: label values {', '.join(map(str, strange[:6]))} are not in the label map",
                hint="map them to a class or to null in source.label_map (source.kind: masks)",
            )
        return np.asarray(labels)


class _BrokenFileError(EdgeAIError):
    """An unusable file: an error at the start, a counted problem later."""


def _read_image(path: Path) -> Array:
    """Return an RGB image [H, W, 3] uint8."""
    return np.asarray(_opened(path).convert("RGB"))


def _read_values(path: Path) -> Array:
    """Return label values [H, W] uint8; of a palette image its indices, not its colors."""
    image = _opened(path)
    if image.mode not in ("L", "P"):
        raise _BrokenFileError(
            f"{path}: labels must be 8-bit class indices, this is {image.mode}",
            hint="save them as PNG with one channel or a palette",
        )
    return np.asarray(image)


def _opened(path: Path) -> Image.Image:
    """Return a completely decoded image, so that truncated files fail here."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # raised by PIL's decoders
        raise _BrokenFileError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or 'the file is truncated or not an image'}"
        ) from error


def _size(image: Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
