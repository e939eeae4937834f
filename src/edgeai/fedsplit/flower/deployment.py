"""A run on Flower's deployment engine, from both sides: the person's process, and the ServerApp's."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from flwr.serverapp import Grid

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run, is_alive
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.local import events
from edgeai.fedsplit.flower.local.deployment_folder import HERE, Home, flwr
from edgeai.fedsplit.flower.local.processes import kill, marked, own_home
from edgeai.fedsplit.flower.transport.courier import ONCE_A_ROUND, Courier, DeviceLost, Traffic
from edgeai.fedsplit.flower.transport.message_courier import MessageCourier
from edgeai.fedsplit.flower.transport.roster import Roster
from edgeai.fedsplit.flower.transport.stream_courier import Address, StreamCourier
from edgeai.fedsplit.flower.transport.stream_service import Certificate, StreamService
from edgeai.fedsplit.flower.transport.wire_report import write_wire
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.history import History
from edgeai.fedsplit.sim.train import play_round, train

_ANSWER = "answer-{}.pickle"
PID = "server.pid"
"""Who plays the run."""
_LOOK_S = 0.1
_BEGIN_S = 120.0  # for Flower to start the ServerApp
_GONE_S = 2.0  # between a server's end and its answer's being seen


@dataclass(frozen=True)
class Answer:
    """How a run ended."""

    report: SimReport | None = None
    error: EdgeAIError | None = None
    bug: str | None = None


def transport_of(cfg: SimConfig, backend: FlowerConfig) -> str:
    """Which way to the devices a run takes: "message" or "stream"."""
    if backend.transport != "auto":
        return backend.transport
    return "message" if cfg.method.kind in ONCE_A_ROUND else "stream"


def run_on_deployment(cfg: SimConfig, backend: FlowerConfig, run: Run, *, resume: bool) -> SimReport:
    """Submits a run as a Flower app and follows it to its end.

    Raises:
        EdgeAIError: Flower does not start it, or what ended it.
    """
    return submit(Home.open(backend.home), [run], resume=resume)[0]


def submit(home: Home, runs: list[Run], *, resume: bool = False) -> list[SimReport]:
    """Submits runs that follow one another, and follows them."""
    for run in runs:
        run.metrics.close()
        _end_server(home, run)  # of a command that was killed itself
        _sweep(run)
    answer, number = _ANSWER.format(uuid.uuid4().hex), None
    try:
        number = _flwr_run(home, runs, answer, resume=resume)
        return [_follow(home, run, answer) for run in runs]
    except BaseException:
        for run in runs:
            _end_server(home, run)
        if number is not None and home.is_up:  # Flower would wait for a SuperLink that is gone
            with suppress(EdgeAIError):
                flwr(home, "stop", number)
        for run in runs:
            _sweep(run)
        raise


def new_roster(cfg: SimConfig, grid: Grid) -> Roster:
    """Of a run's clients."""
    assert isinstance(cfg.backend, FlowerConfig)
    return Roster(grid, cfg.num_clients, interval_s=_LOOK_S, patience_s=cfg.backend.start_s)


def train_on_grid(
    cfg: SimConfig, run: Run, grid: Grid, *, resume: bool, owner: int = 0, roster: Roster | None = None
) -> SimReport:
    """The run itself, in the ServerApp.

    Args:
        cfg: Of the run.
        run: Its directory.
        grid: Flower's.
        resume: Go on from the state that is kept there.
        owner: Process that wants the outcome; when it is gone, so is the run. 0: nobody has to be there.
        roster: Of a run before, so that nodes need not be asked again who they are.
    """
    backend = cfg.backend
    assert isinstance(backend, FlowerConfig)
    roster = roster or new_roster(cfg, grid)
    roster.wait_for(cfg.num_clients, at_least=backend.min_nodes)
    sim = build_sim(cfg, run.device)
    courier, service = _way(cfg, backend, grid, roster)
    run.metrics.note(f"{len(roster.node_of)} devices; exchanges go by {courier.traffic.by}")
    sim = replace(sim, devices=FlowerDevices(sim, courier, run.device))
    try:
        report = train(sim, run, resume=resume, play=Retrying(run, backend, owner))
    finally:
        if service is not None:
            service.close()
    write_wire(run, courier.traffic, report)
    run.metrics.close()
    return report


class Retrying:
    """Plays rounds; one in which a device is lost is played again from its begin, without that device.

    Args:
        run: For notes.
        backend: How many devices must be there.
        owner: See `train_on_grid`.
    """

    def __init__(self, run: Run, backend: FlowerConfig, owner: int) -> None:
        self._run, self._backend, self._owner = run, backend, owner

    def __call__(self, sim: Sim, number: int, history: History) -> Round:
        """One round, with whoever is there."""
        if self._owner and not is_alive(self._owner):
            raise EdgeAIError(f"process {self._owner}, which asked for this run, is gone", hint="resume it")
        assert isinstance(sim.devices, FlowerDevices)
        clients = range(sim.cfg.num_clients)
        away = sim.devices.away(clients)
        if away:
            self._run.metrics.note(f"round {number} goes without clients {_named(away)}, which are not there")
        begin = _frozen(history.state())
        while True:
            if len(clients) - len(away) < self._backend.min_nodes:
                raise EdgeAIError(
                    f"only {len(clients) - len(away)} clients are left, fewer than backend.min_nodes "
                    f"({self._backend.min_nodes})",
                    hint="start SuperNodes, and resume the run",
                )
            try:
                return play_round(sim, number, away)
            except DeviceLost as lost:
                self._run.metrics.note(f"{lost}; round {number} is played again without it")
                away = away | {lost.client}
                history.restore(_thawed(begin))


def _way(cfg: SimConfig, backend: FlowerConfig, grid: Grid, roster: Roster) -> tuple[Courier, StreamService | None]:
    text, threads = config_text(cfg), backend.threads or torch.get_num_threads()
    if transport_of(cfg, backend) == "message":
        return (
            MessageCourier(
                grid,
                roster,
                text,
                threads=threads,
                interval_s=_LOOK_S,
                silence_s=backend.silence_s + backend.start_s,
                is_logged=True,
                is_single=cfg.method.kind in ONCE_A_ROUND,
            ),
            None,
        )
    home, traffic = Home.open(own_home() or backend.home), Traffic()
    if home.certificate is None and backend.stream_host not in HERE:
        raise UsageError(
            f"streams on {backend.stream_host} without TLS are open to everyone",
            hint="edgeai fedsplit up --self-signed",
        )
    certificate = None
    if home.certificate is not None:
        certificate = Certificate(Path(str(home.key)), Path(home.certificate))
    service = StreamService(
        backend.stream_host,
        backend.stream_port,
        cfg.num_clients,
        chunk_bytes=backend.chunk_bytes,
        traffic=traffic,
        certificate=certificate,
    )
    root = Path(home.root).read_text(encoding="utf-8") if home.root else ""
    address = Address(f"{backend.stream_host}:{service.port}", root)
    courier = StreamCourier(
        grid,
        roster,
        text,
        service,
        address,
        traffic,
        threads=threads,
        chunk_bytes=backend.chunk_bytes,
        silence_s=backend.silence_s,
        start_s=backend.start_s,
    )
    return courier, service


def _flwr_run(home: Home, runs: list[Run], answer: str, *, resume: bool) -> str:
    folders = os.pathsep.join(str(run.path.absolute()) for run in runs)
    told = f'run-dirs="{folders}" resume={str(resume).lower()} owner={os.getpid()} answer="{answer}" cwd="{Path.cwd()}"'
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
    reader = events.EventReader(run.path, run.metrics.listener)
    until_s = time.monotonic() + _BEGIN_S
    while not (run.path / name).exists():
        reader.read()
        if not home.is_up:
            raise EdgeAIError(
                "Flower's SuperLink is gone",
                hint=f"edgeai fedsplit down {home.path}, up again, and go on with --resume {run.path}",
            )
        if _server(home, run) is not None:
            until_s = time.monotonic() + _GONE_S
        elif time.monotonic() > until_s:
            raise EdgeAIError(
                "the server's process is gone",
                hint=f"see {home.path / 'superlink.log'}, and go on with --resume {run.path}",
            )
        time.sleep(_LOOK_S)
    reader.read()
    answer: Answer = pickle.loads((run.path / name).read_bytes())
    _sweep(run)
    if answer.error is not None:
        raise answer.error
    if answer.report is None:
        raise RuntimeError(answer.bug)
    return answer.report


def _server(home: Home, run: Run) -> int | None:
    """The process that plays a run; None where there is none, or not yet."""
    try:
        pid = int((run.path / PID).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if pid in marked(home.path) else None


def _end_server(home: Home, run: Run) -> None:
    pid = _server(home, run)
    if pid is not None:
        kill(pid, signal.SIGKILL)


def _sweep(run: Run) -> None:
    for path in (run.path / PID, run.path / events.NAME, *run.path.glob(_ANSWER.format("*"))):
        path.unlink(missing_ok=True)


def _frozen(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _thawed(state: bytes) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True)
    return found


def _named(clients: set[int]) -> str:
    return ", ".join(map(str, sorted(clients)))
