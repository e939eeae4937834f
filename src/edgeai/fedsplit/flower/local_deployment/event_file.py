"""Progress and notes of a run in another process, passed through a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgeai.core.files import json_text
from edgeai.core.metrics import Listener

NAME = "events.jsonl"


class EventWriter(Listener):
    """Listener that appends events to the file.

    Args:
        folder: Run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """See `Listener`."""
        self._write(what="progress", task=task, done=done, total=total, unit=unit, fields=dict(fields))

    def on_note(self, text: str) -> None:
        """See `Listener`."""
        self._write(what="note", text=text)

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Listener`."""
        self._write(what="log", step=step, values=dict(values))

    def _write(self, **words: object) -> None:
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json_text(words, indent=None) + "\n")


class EventReader:
    """Reader that passes events on to a listener.

    Args:
        folder: Run directory.
        listener: Listener of this process; None to discard events.
    """

    def __init__(self, folder: Path, listener: Listener | None) -> None:
        self._path, self._listener = folder / NAME, listener
        self._place = 0

    def read(self) -> bool:
        """Pass on new events; return whether there were any."""
        if not self._path.exists():
            return False
        with self._path.open("rb") as lines:
            lines.seek(self._place)
            whole, newline, _ = lines.read().rpartition(b"\n")
        self._place += len(whole) + len(newline)
        for line in whole.splitlines():
            self._tell(json.loads(line))
        return bool(whole)

    def _tell(self, words: dict[str, object]) -> None:
        listener = self._listener
        what = words.pop("what")
        if listener is not None:
            getattr(listener, f"on_{what}")(**words)
