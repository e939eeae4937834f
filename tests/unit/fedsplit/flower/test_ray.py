"""The six methods on Flower's simulation engine, in one session of it, against one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeai.core.run import Run
from edgeai.fedsplit.backend_schema import FlowerSimConfig
from edgeai.fedsplit.build import build_sim
from edgeai.fedsplit.flower.launch import train_on_ray
from edgeai.fedsplit.flower.simulation import on_ray
from edgeai.fedsplit.simulate import train

from .conftest import NUM_CLIENTS, config
from .test_parity import SIX


def new_run(cfg: Any, path: Path) -> Run:
    return Run.create(cfg, out=path, argv=["edgeai"], device="cpu", device_why="test")


@pytest.mark.slow
def test_the_simulation_engine_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # other processes build the model that the config names
    backend = FlowerSimConfig(actors=2)
    cfgs = [config(method=method, rounds=1, backend=backend.model_dump()) for method in SIX]

    def work(grid: Any) -> list[dict[str, Any]]:
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
