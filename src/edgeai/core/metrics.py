"""The metrics sink of a run: metrics.jsonl, TensorBoard, log.txt, and a listener for the terminal.

Area code only ever calls `run.metrics`; it never prints.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from edgeai.core.files import json_text, write_whole

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter


class Listener(Protocol):
    """Receives progress, notes and metrics of a run."""

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """Called when `done` of `total` units of `task` are done; total is None if unknown."""

    def on_note(self, text: str) -> None:
        """Called with one line for the user."""

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """Called with the metrics logged at `step`."""


class Metrics:
    """The metrics sink of one run.

    Args:
        folder: Run directory, or None to write nothing (tests, processes of rank > 0).
        listener: Receives progress, notes and metrics.
    """

    def __init__(self, folder: Path | None, *, listener: Listener | None = None) -> None:
        self._folder = folder
        self.listener = listener
        self._lines: TextIO | None = None
        self._events: EventFileWriter | None = None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Store the values of one step: a line {"step", "time_s" (Unix time), ...} and TensorBoard scalars."""
        plain = {name: float(value) for name, value in values.items()}
        if self._folder is not None:
            if self._lines is None:
                self._lines = (self._folder / "metrics.jsonl").open("a", encoding="utf-8")
            row = {"step": step, "time_s": round(time.time(), 3), **plain}
            self._lines.write(json_text(row, indent=None) + "\n")
            self._lines.flush()
            self._write_event(step, plain)
        if self.listener is not None:
            self.listener.on_log(step, plain)

    def progress(self, task: str, done: float, total: float | None, *, unit: str = "", **fields: float) -> None:
        """Report the progress of `task` to the listener; stores nothing."""
        if self.listener is not None:
            self.listener.on_progress(task, done, total, unit=unit, fields=fields)

    def note(self, text: str) -> None:
        """Report one line to the listener and append it to log.txt."""
        if self._folder is not None:
            with (self._folder / "log.txt").open("a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if self.listener is not None:
            self.listener.on_note(text)

    def rewind(self, step: int) -> None:
        """Delete what was logged after `step`, so that a resumed run logs it once."""
        self.close()
        if self._folder is None:
            return
        kept = [row for row in read_metrics(self._folder) if row["step"] <= step]
        if (self._folder / "metrics.jsonl").exists():
            text = "".join(json_text(row, indent=None) + "\n" for row in kept)
            write_whole(self._folder / "metrics.jsonl", text)
            self._write_event(step + 1, None)

    def close(self) -> None:
        """Flush and close the files; the next log call reopens them."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        if self._events is not None:
            self._events.close()
            self._events = None

    def _write_event(self, step: int, values: Mapping[str, float] | None) -> None:
        """Write TensorBoard scalars, or, for None, the mark that events from `step` on are void."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._events is None:
            self._events = EventFileWriter(str(self._folder))
        event = Event(wall_time=time.time(), step=step)
        if values is None:
            event.session_log.status = SessionLog.START
        else:
            for name, value in values.items():
                event.summary.value.append(Summary.Value(tag=name, simple_value=value))
        self._events.add_event(event)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Read a run's metrics.jsonl; an incomplete last line is left out, a missing file is empty.

    Args:
        folder: Run directory.

    Returns:
        One dict per logged step; a value that was not finite is None.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
