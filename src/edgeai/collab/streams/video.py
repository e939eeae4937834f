"""Streams from video files, decoded by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeai.collab.config.streams import VideoConfig
from edgeai.collab.streams.images import class_colors, resized
from edgeai.collab.streams.stream import Frame
from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError


class VideoStream:
    """A stream of frames from a video file, without labels.

    Args:
        config: File, size and stride.

    Raises:
        UsageError: The file is missing or OpenCV cannot read it.
        EdgeAIError: OpenCV is not installed.
    """

    def __init__(self, config: VideoConfig) -> None:
        if (config.height is None) != (config.width is None):
            raise UsageError("source.height and source.width must be given together")
        self._cv2, self._path, self._stride = _opencv(), data_path(config.path), config.stride
        capture = self._cv2.VideoCapture(str(self._path))
        is_read, first = capture.read()
        rate_hz, count = capture.get(self._cv2.CAP_PROP_FPS), int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if not is_read or rate_hz <= 0:
            raise UsageError(f"cannot read {self._path} as a video", hint="use a format that OpenCV supports")
        self.classes = config.classes
        self.palette = class_colors(config.classes)
        self.rate_hz = rate_hz / config.stride
        self.height, self.width = config.height or first.shape[0], config.width or first.shape[1]
        self.num_frames: int | None = -(-count // config.stride) if count > 0 else None
        self.problems: list[str] = []

    def frames(self) -> Iterator[Frame]:
        """Yield every `stride`-th frame; a truncated file is counted as one problem."""
        self.problems.clear()
        capture = self._cv2.VideoCapture(str(self._path))
        try:
            index = 0
            while capture.grab():
                if index % self._stride == 0:
                    is_read, image = capture.retrieve()
                    if is_read:
                        yield self._frame(index, np.ascontiguousarray(image[..., ::-1]))  # BGR
                    else:
                        self.problems.append(f"{self._path}: frame {index} cannot be decoded")
                index += 1
        finally:
            capture.release()
        expected = self.num_frames
        if expected is not None and -(-index // self._stride) < expected:
            self.problems.append(f"{self._path}: ends after {index} frames, fewer than its header states")

    def _frame(self, index: int, image: np.ndarray) -> Frame:
        number = index // self._stride
        image = resized(image, self.height, self.width, smooth=True)
        return Frame(f"{index:06d}", number / self.rate_hz, image, None, "clear")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise EdgeAIError("reading a video needs OpenCV", hint='pip install "edgeai[vision]"') from None
    return cv2
