"""The six methods on Flower's simulation engine, in one session of it, against one process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeai.core.config import dump_config
from edgeai.core.run import Run
from edgeai.fedsplit.config.backend import FlowerSimConfig
from edgeai.fedsplit.flower.launch import train_on_ray
from edgeai.fedsplit.flower.local_deployment.processes import environment, marked
from edgeai.fedsplit.flower.secure import client_app, federate_securely
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import play_round, train

from .conftest import NUM_CLIENTS, config, hear_ctrl_c
from .test_parity import SIX


def new_run(cfg: Any, path: Path) -> Run:
    return Run.create(cfg, out=path, argv=["edgeai"], device="cpu", device_why="test")


@pytest.mark.slow
def test_the_simulation_engine_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # other processes build the model that the config names
    backend = FlowerSimConfig(actors=2)
    cfgs = [config(method=method, rounds=1, backend=backend.model_dump()) for method in SIX]

    def work(grid: Any, context: Any) -> list[dict[str, Any]]:
        found = []
        for number, cfg in enumerate(cfgs):
            run = new_run(cfg, tmp_path / f"ray{number}")
            found.append(train_on_ray(cfg, backend, run, grid).to_json())
        return found

    found = on_ray(backend, NUM_CLIENTS, work)
    for number, cfg in enumerate(cfgs):
        run = new_run(cfg, tmp_path / f"here{number}")
        assert found[number] == train(build_sim(cfg), run).to_json(), cfg.method.kind
        assert (tmp_path / f"ray{number}" / "wire.json").exists()


@pytest.mark.slow
def test_secure_sums_are_those_of_federated_averaging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Flower's SecAgg+ the server adds masked fixed-point numbers."""
    monkeypatch.undo()
    cfg = config(method="fedavg", rounds=2)
    expected = build_sim(cfg)
    for number in (1, 2):
        play_round(expected, number)
    arrays, accuracies = on_ray(
        FlowerSimConfig(actors=2),
        NUM_CLIENTS,
        lambda grid, context: federate_securely(cfg, grid, context),
        app=client_app,
    )
    assert len(accuracies) == 2
    for found, value in zip(arrays, expected.method.global_model.model.state_dict().values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(found).float(), value, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_ctrl_c_ends_ray_too(tmp_path: Path) -> None:
    cfg = config(method="fedavg", rounds=1000, backend={"kind": "flower-sim"})
    file, out = tmp_path / "cfg.yaml", tmp_path / "run"
    file.write_text(dump_config(cfg))
    command = [sys.executable, "-m", "edgeai", "fedsplit", "sim", "-c", str(file), "--out", str(out), "--quiet"]
    with subprocess.Popen(command, env=environment(tmp_path), preexec_fn=hear_ctrl_c) as asked:
        until_s = time.monotonic() + 240
        while not (out / "state.pt").exists():
            assert asked.poll() is None
            assert time.monotonic() < until_s, "it does not begin"
            time.sleep(0.1)
        assert len(marked(tmp_path)) > 1, "Ray's processes carry the mark too"
        asked.send_signal(signal.SIGINT)
        asked.wait(timeout=120)
    until_s = time.monotonic() + 60
    while marked(tmp_path):
        assert time.monotonic() < until_s, "something was left behind"
        time.sleep(0.1)
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
