"""Progress on stderr: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from edgeai.commands.render.metrics import in_words
from edgeai.core.metrics import Listener
from edgeai.core.report.fields import About
from edgeai.core.units import amount, duration

_LINE_EVERY_S = 10.0


@contextmanager
def listening(
    *, quiet: bool = False, verbose: bool = False, notes_only: bool = False, known: Mapping[str, About] | None = None
) -> Iterator[Listener | None]:
    """Yield the listener for this terminal, and remove its progress bar at the end.

    Args:
        quiet: Whether to print nothing; then the listener is None.
        verbose: Whether to print every logged step.
        notes_only: Whether to print no progress, because the result streams to the terminal.
        known: Descriptions of metrics by name, as `View.logged`; others are printed with their names.
    """
    known = known or {}
    if quiet:
        yield None
    elif notes_only:
        yield NotesListener(known, verbose=verbose)
    elif not sys.stderr.isatty():
        yield PlainListener(known, verbose=verbose)
    else:
        bar = BarListener(Console(stderr=True), known, verbose=verbose)
        with bar:
            yield bar


class PlainListener:
    """Plain lines for logs and pipes: at most one progress line per ten seconds, and one when a task is done."""

    def __init__(self, known: Mapping[str, About] | None = None, *, verbose: bool = False) -> None:
        self._known, self._verbose = known or {}, verbose
        self._begun: dict[str, tuple[float, float]] = {}
        self._finished: set[str] = set()
        self._last_s = float("-inf")

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """Print done, total, rate, time left and fields, unless a line was printed less than ten seconds ago."""
        now_s = time.monotonic()
        finished = total is not None and done >= total
        if finished and task in self._finished:
            return
        if not finished and task in self._finished:  # the task restarts
            self._finished.remove(task)
            del self._begun[task]
        first_done, first_s = self._begun.setdefault(task, (done, now_s))
        if now_s - self._last_s < _LINE_EVERY_S and not finished:
            return
        self._last_s = now_s
        if finished:
            self._finished.add(task)
        rate = (done - first_done) / (now_s - first_s) if now_s > first_s else 0.0
        parts = [amount(done, unit) + (f"/{amount(total, unit)}" if total is not None else "")]
        if rate > 0:
            parts.append(f"{amount(rate, unit)}/s")
            if total is not None and not finished:
                parts.append(f"{duration((total - done) / rate)} left")
        if fields:
            parts.append(in_words(fields, self._known))
        self.on_note(f"{task}: " + ", ".join(parts))

    def on_note(self, text: str) -> None:
        """Print the line."""
        print(text, file=sys.stderr, flush=True)

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """Print the values with -v."""
        if self._verbose:
            self.on_note(f"step {step}: {in_words(values, self._known)}")


class NotesListener(PlainListener):
    """Plain lines without progress."""

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """Print nothing."""


class BarListener:
    """A progress bar per task, with notes above."""

    def __init__(self, console: Console, known: Mapping[str, About] | None = None, *, verbose: bool = False) -> None:
        self._known, self._verbose = known or {}, verbose
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),  # leaves 80 columns room for a name, counts and the time left
            TextColumn("{task.fields[counts]}"),
            TextColumn("eta"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}", style="dim"),
            console=console,
        )

    def __enter__(self) -> "BarListener":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """Update the task's bar; a restarted task gets a new one."""
        bar = self._progress
        if task not in self._tasks or bar.tasks[self._tasks[task]].completed > done:
            self._tasks[task] = bar.add_task(task, total=total, counts="", values="")
        task_id = self._tasks[task]
        bar.update(task_id, completed=done, total=total)
        rate = bar.tasks[task_id].speed or bar.tasks[task_id].finished_speed or 0.0
        counts = amount(done, unit) + (f"/{amount(total, unit)}" if total is not None else "")
        if rate > 0:
            counts += f" {amount(rate, unit)}/s"
        bar.update(task_id, counts=counts, values=in_words(fields, self._known))

    def on_note(self, text: str) -> None:
        """Print the line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """Print the values with -v."""
        if self._verbose:
            self.on_note(f"step {step}: {in_words(values, self._known)}")
