"""Flower's deployment engine on this machine: the same result, also if processes are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeai.core.config import dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.fedsplit.flower.local_deployment.home import Home
from edgeai.fedsplit.flower.local_deployment.processes import marked
from edgeai.fedsplit.flower.local_deployment.start_stop import start, start_node, stop
from edgeai.fedsplit.flower.run_outcome import PID
from edgeai.fedsplit.flower.submit import submit
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.history import hash_weights
from edgeai.fedsplit.sim.train import play_round, train

from .conftest import PATIENCE_S, hear_ctrl_c, new_run
from .test_parity import SIX

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_true_model")]


@pytest.fixture(scope="module", name="home")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    path = tmp_path_factory.mktemp("flower")
    home = start(path, 2)
    try:
        yield home
    finally:
        stop(path)
    assert marked(path) == []


def wait_for(is_there: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not is_there():
        assert time.monotonic() < until_s, "it does not come"
        time.sleep(0.05)


def test_the_deployment_engine_changes_nothing(home: Home, tmp_path: Path) -> None:
    made = [new_run(home, tmp_path / f"there{number}", method=method, rounds=1) for number, method in enumerate(SIX)]
    found = submit(home, [run for _, run in made])
    ways = []
    for number, (cfg, run) in enumerate(made):
        here = Run.create(cfg, out=tmp_path / f"here{number}", argv=["edgeai"], device="cpu", device_why="test")
        assert found[number].to_json() == train(build_sim(cfg), here).to_json(), cfg.method.kind
        wire = json.loads((run.path / "wire.json").read_text())
        ways.append(wire["transport"])
        assert wire["up_received_bytes"] >= wire["ledger"]["up_bytes"]
        assert wire["down_sent_bytes"] >= wire["ledger"]["down_bytes"]
        assert wire["down_received_bytes"] == pytest.approx(wire["down_sent_bytes"], rel=0.01)
        assert wire["up_received_bytes"] == pytest.approx(wire["up_sent_bytes"], rel=0.01)
    assert ways == ["message", "stream", "stream", "stream", "message", "message"]


def test_a_client_killed_in_a_round_is_left_out_and_comes_back(home: Home, tmp_path: Path) -> None:
    """The expected result is computed here, with the same clients missing in the same rounds as the log says."""
    cfg, run = new_run(
        home,
        tmp_path / "run",
        method="splitfed-v2",
        rounds=4,
        batch=8,
        backend={"silence_s": 15.0, "start_s": 75.0, "min_nodes": 1},
    )
    killed: list[int] = []

    def kill_when_it_trains() -> None:
        wait_for(lambda: (run.path / "state.pt").exists())
        for pid in marked(home.path):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            if f":{home.node_ports[1]}" in line or f"\0{home.node_ports[1]}\0" in line:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        start_node(home, 1, client=1)

    thread = threading.Thread(target=kill_when_it_trains)
    thread.start()
    [report] = submit(home, [run])
    thread.join()
    assert killed, "the case was not met"
    log = (run.path / "log.txt").read_text()
    lost = {int(number) for number in re.findall(r"round (\d+) (?:runs without|is repeated)", log)}
    assert lost, log
    expected = build_sim(cfg)
    for number in (1, 2, 3, 4):
        play_round(expected, number, away={1} if number in lost else ())
    assert report.weights_hash == hash_weights(expected.method)
    assert sum(report.bytes_up.values()) == expected.ledger.totals.up_bytes


def test_a_server_killed_and_started_again_goes_on(home: Home, tmp_path: Path) -> None:
    cfg, run = new_run(home, tmp_path / "run", method="fedavg", rounds=2)

    def kill() -> None:
        wait_for(lambda: (run.path / "state.pt").exists())
        os.kill(int((run.path / PID).read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(EdgeAIError) as caught:
        submit(home, [run])
    thread.join()
    assert str(caught.value) == "the server's process is gone"
    [report] = submit(home, [run], resume=True)
    here = Run.create(cfg, out=tmp_path / "here", argv=["edgeai"], device="cpu", device_why="test")
    assert report.to_json() == train(build_sim(cfg), here).to_json()


def test_a_superlink_killed_and_started_again_goes_on(tmp_path: Path) -> None:
    home = start(tmp_path / "home", 2)
    try:
        cfg, run = new_run(home, tmp_path / "run", method="fedavg", rounds=2)

        def kill() -> None:
            wait_for(lambda: (run.path / "state.pt").exists())
            os.kill(home.pids["superlink"], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(EdgeAIError) as caught:
            submit(home, [run])
        thread.join()
        assert str(caught.value) == "Flower's SuperLink is gone"
        stop(home.path)
        assert marked(home.path) == []
        again = start(home.path, 2)
        [report] = submit(again, [run], resume=True)
    finally:
        stop(home.path)
    here = Run.create(cfg, out=tmp_path / "here", argv=["edgeai"], device="cpu", device_why="test")
    assert report.to_json() == train(build_sim(cfg), here).to_json()


def test_ctrl_c_ends_the_server_too(home: Home, tmp_path: Path) -> None:
    """Run through the CLI with a relative path of the home, over streams."""
    where = {"home": home.path.name}
    cfg, _ = new_run(home, tmp_path / "unused", method="splitfed-v2", rounds=50, backend=where)
    file, out = tmp_path / "cfg.yaml", tmp_path / "run"
    file.write_text(dump_config(cfg))
    command = [sys.executable, "-m", "edgeai", "fedsplit", "sim", "-c", str(file), "--out", str(out), "--quiet"]
    with subprocess.Popen(command, cwd=home.path.parent, preexec_fn=hear_ctrl_c) as asked:
        wait_for(lambda: asked.poll() is not None or (out / "state.pt").exists())
        server = int((out / PID).read_text())
        assert server in marked(home.path)
        asked.send_signal(signal.SIGINT)
        asked.wait(timeout=PATIENCE_S)
    wait_for(lambda: server not in marked(home.path))
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
