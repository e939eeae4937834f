"""One line per frame, as soon as nothing more can happen to it, so that memory does not grow with the stream.

Lines stand in the order in which frames were completed; `index` is their order in the stream. Times count from the
start of the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from edgeai.core.files import json_text

FILE = "frames.jsonl"
OVERLAYS = "overlays"
"""Folder of the pictures of chosen frames, NUMBER.npz, beside it."""


@dataclass(frozen=True)
class FrameRecord:
    """What became of a frame, and who decided it on what grounds."""

    index: int
    id: str
    segment: str
    time_s: float
    version: int
    """Of the edge model that looked at it."""
    score: float | None
    delta: float | None
    """The threshold when it was compared."""
    upload: bool
    """The strategy wanted it uploaded."""
    explored: bool
    prob_upload: float
    for_answer: bool
    """The cloud's answer was waited for."""
    uploaded: bool
    """It arrived at the cloud."""
    drops: tuple[str, ...]
    """Why it was not looked at, not answered or not sent."""
    quality: int | None
    scale: float | None
    up_bytes: int
    down_bytes: int
    edge_s: float | None
    """When the edge's answer was out."""
    reply_s: float | None
    """When the cloud's answer arrived."""
    answer: str
    """Whose answer stood: edge, cloud, or stale (of an earlier frame)."""
    latency_s: float
    """From the frame to that answer; the deadline if there was none."""
    missed_deadline: bool
    loss: float | None
    """1 - mIoU of the answer that stood."""
    loss_edge: float | None
    loss_cloud: float | None
    num_painted: int | None
    """Masks that the cloud painted."""


class RecordWriter:
    """Appends records to frames.jsonl.

    Args:
        folder: Run directory; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._stream: TextIO | None = None if folder is None else (folder / FILE).open("w", encoding="utf-8")

    def write(self, record: FrameRecord) -> None:
        """Add a line."""
        if self._stream is not None:
            self._stream.write(json_text(asdict(record), indent=None) + "\n")

    def close(self) -> None:
        """Flush and close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_records(folder: Path) -> Iterator[FrameRecord]:
    """The records of a run, in the order in which frames were completed."""
    with (folder / FILE).open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield FrameRecord(**{**row, "drops": tuple(row["drops"])})
