"""Submit runs to a Flower deployment and follow them to their end, in the user's process."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.flower.local_deployment import event_file
from edgeai.fedsplit.flower.local_deployment.home import Home, flwr
from edgeai.fedsplit.flower.local_deployment.processes import kill, marked
from edgeai.fedsplit.flower.run_outcome import OUTCOME, PID, RunOutcome
from edgeai.fedsplit.reports.run_report import SimReport

_POLL_S = 0.1
_BEGIN_S = 120.0  # for Flower to start the ServerApp
_GONE_S = 2.0  # between the end of the server and the detection of its outcome file


def run_on_deployment(backend: FlowerConfig, run: Run, *, resume: bool) -> SimReport:
    """Submit one run as a Flower app and return its report.

    Raises:
        EdgeAIError: Flower does not start the run, or the run failed.
    """
    return submit(Home.open(backend.home), [run], resume=resume)[0]


def submit(home: Home, runs: list[Run], *, resume: bool = False) -> list[SimReport]:
    """Submit runs that one ServerApp executes in order; return their reports.

    Raises:
        EdgeAIError: Flower does not start the runs, or one failed.
    """
    for run in runs:
        run.metrics.close()
        _end_server(home, run)  # left over by a command that was killed
        _clean_up(run)
    outcome, number = OUTCOME.format(uuid.uuid4().hex), None
    try:
        number = _flwr_run(home, runs, outcome, resume=resume)
        return [_follow(home, run, outcome) for run in runs]
    except BaseException:
        for run in runs:
            _end_server(home, run)
        if number is not None and home.is_up:  # otherwise `flwr stop` would wait for the missing SuperLink
            with suppress(EdgeAIError):
                flwr(home, "stop", number)
        for run in runs:
            _clean_up(run)
        raise


def _flwr_run(home: Home, runs: list[Run], outcome: str, *, resume: bool) -> str:
    """Start the app; return Flower's run id."""
    folders = os.pathsep.join(str(run.path.absolute()) for run in runs)
    told = (
        f'run-dirs="{folders}" resume={str(resume).lower()} owner={os.getpid()} answer="{outcome}" cwd="{Path.cwd()}"'
    )
    done = flwr(home, "run", str(home.app), "here", "--format", "json", "-c", told, limit_s=_BEGIN_S)
    try:
        number = json.loads(done.stdout[done.stdout.index("{") :])["run-id"]
    except (ValueError, KeyError):
        number = None
    if not number:
        raise EdgeAIError(
            f"Flower does not start the run: {(done.stdout + done.stderr).strip()[-400:]}",
            hint=f"see {home.path / 'superlink.log'}",
        )
    return str(number)


def _follow(home: Home, run: Run, name: str) -> SimReport:
    """Pass on the run's notes and progress until its outcome file is there."""
    reader = event_file.EventReader(run.path, run.metrics.listener)
    until_s = time.monotonic() + _BEGIN_S
    while not (run.path / name).exists():
        reader.read()
        if not home.is_up:
            raise EdgeAIError(
                "Flower's SuperLink is gone",
                hint=f"edgeai fedsplit down {home.path}, up again, and continue with --resume {run.path}",
            )
        if _server(home, run) is not None:
            until_s = time.monotonic() + _GONE_S
        elif time.monotonic() > until_s:
            raise EdgeAIError(
                "the server's process is gone",
                hint=f"see {home.path / 'superlink.log'}, and continue with --resume {run.path}",
            )
        time.sleep(_POLL_S)
    reader.read()
    outcome: RunOutcome = pickle.loads((run.path / name).read_bytes())
    _clean_up(run)
    if outcome.error is not None:
        raise outcome.error
    if outcome.report is None:
        raise RuntimeError(outcome.bug)
    return outcome.report


def _server(home: Home, run: Run) -> int | None:
    """Return the process id of the run's ServerApp, or None while there is none."""
    try:
        pid = int((run.path / PID).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if pid in marked(home.path) else None


def _end_server(home: Home, run: Run) -> None:
    pid = _server(home, run)
    if pid is not None:
        kill(pid, signal.SIGKILL)


def _clean_up(run: Run) -> None:
    for path in (run.path / PID, run.path / event_file.NAME, *run.path.glob(OUTCOME.format("*"))):
        path.unlink(missing_ok=True)
