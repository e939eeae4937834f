"""A sweep: one run per variant and seed, each kept in a folder of its own as soon as it is done.

An interrupted sweep continues with the runs that are missing; a run that fails does not stop the others.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeai.core.config import Config, dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Listener, Metrics
from edgeai.core.run import Run


class Sweep:
    """The results and failures of a sweep's runs, each reported as soon as the run ends.

    Args:
        num_runs: Number of runs of the sweep, including those of earlier calls.
        metrics: Metrics of the sweep; receive progress and one note per run.
    """

    def __init__(self, num_runs: int, metrics: Metrics) -> None:
        self._num_runs, self._metrics = num_runs, metrics
        self.results: dict[str, Mapping[str, Any]] = {}
        """Reports by run name."""
        self.failures: dict[str, str] = {}
        """Error messages by run name."""

    @property
    def num_ended(self) -> int:
        """Number of runs that are done or failed."""
        return len(self.results) + len(self.failures)

    def restore(self, name: str, result: Mapping[str, Any]) -> None:
        """Add a result of an earlier call."""
        self.results[name] = result
        self._show()

    def succeed(self, name: str, result: Mapping[str, Any], summary: str) -> None:
        """Add the result of a run that has just ended, with a one-line summary."""
        self.results[name] = result
        self._metrics.note(f"{name}: {summary}")
        self._show()

    def fail(self, name: str, message: str) -> None:
        """Add the error of a run that has just failed."""
        self.failures[name] = message
        self._metrics.note(f"{name}: failed: {message}")
        self._show()

    def _show(self) -> None:
        self._metrics.progress("compare", self.num_ended, self._num_runs, unit="runs")


def all_failed(failures: Mapping[str, str], *, hint: str = "") -> EdgeAIError:
    """Return the error of a sweep without any result.

    Args:
        failures: Error messages by run name, in the order in which the runs failed.
        hint: What to do next.
    """
    return EdgeAIError(f"all runs failed; first error: {next(iter(failures.values()))}", hint=hint)


def kept_report(folder: Path, cfg: Config) -> dict[str, Any] | None:
    """Return the report of an earlier run in this folder, or None if it has another config or is not done."""
    report, config, info = folder / "report.json", folder / "config.yaml", folder / "run.json"
    if not (report.exists() and config.exists()) or config.read_text(encoding="utf-8") != dump_config(cfg):
        return None
    if info.exists() and json.loads(info.read_text(encoding="utf-8"))["status"] != "done":
        return None
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


@contextmanager
def child_run(
    cfg: Config,
    folder: Path,
    *,
    argv: Sequence[str],
    device: str,
    device_why: str,
    threads: int | None,
    listener: Listener | None = None,
) -> Iterator[Run]:
    """Yield one run of a sweep, created or reopened; an error in the block marks it as failed or interrupted.

    The block calls `Run.finish("done", report)` at its end.

    Args:
        cfg: The run's config; a reopened run keeps the one stored in its folder.
        folder: The run directory.
        argv: The command line as typed.
        device: The torch device.
        device_why: The reason for that device.
        threads: CPU threads in use.
        listener: Receives progress, notes and metrics.
    """
    if (folder / "run.json").exists():
        run = Run.open(folder, listener=listener)
        run.go_on(argv, device=device, device_why=device_why, threads=threads)
    else:
        run = Run.create(
            cfg, out=folder, argv=argv, device=device, device_why=device_why, threads=threads, listener=listener
        )
    try:
        yield run
    except KeyboardInterrupt:
        run.finish("interrupted")
        raise
    except BaseException:
        run.finish("failed")
        raise
