"""A stream that is recorded in memory on the first pass, so that all strategies see the same frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeai.collab.streams.stream import Frame, Stream


class RecordedStream:
    """Records the frames of the first complete pass; a stream that exceeds the memory is read again on every pass.

    Args:
        stream: Source stream.
        max_bytes: Memory for pixels and labels.
    """

    def __init__(self, stream: Stream, *, max_bytes: int) -> None:
        self._stream, self._max_bytes = stream, max_bytes
        self.height, self.width, self.rate_hz = stream.height, stream.width, stream.rate_hz
        self.num_frames, self.palette = stream.num_frames, stream.palette
        self._frames: list[Frame] | None = None
        self._problems: list[str] = []

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._stream.classes

    @property
    def problems(self) -> list[str]:
        """One line for each frame that could not be read."""
        return self._stream.problems if self._frames is None else self._problems

    @property
    def is_recorded(self) -> bool:
        """All frames are in memory."""
        return self._frames is not None

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, without depth, which no model uses."""
        if self._frames is not None:
            yield from self._frames
            return
        kept: list[Frame] = []
        room = self._max_bytes
        for frame in self._stream.frames():
            frame = replace(frame, depth_m=None)
            room -= frame.image.nbytes + (0 if frame.labels is None else frame.labels.nbytes)
            if room >= 0:
                kept.append(frame)
            else:
                kept.clear()
            yield frame
        if room >= 0:
            self._frames, self._problems = kept, list(self._stream.problems)
