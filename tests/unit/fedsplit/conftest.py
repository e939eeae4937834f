"""A tiny world for methods: digits on a few clients, a model of four layers, rounds without files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import Sim, assemble
from edgeai.fedsplit.sim.evaluate import evaluate
from edgeai.fedsplit.sim.history import History
from edgeai.fedsplit.sim.train import play_round

SIZES = (40, 56, 33)
"""Samples of the three clients: short last batches at batch 16."""


@cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(found.target)


def digits(sizes: Sequence[int] = SIZES, num_test: int = 100) -> tuple[Dataset, list[Samples]]:
    """The first digits as test samples, the next ones dealt out to clients in blocks."""
    x, y = _digits()
    test = Samples(x[:num_test], y[:num_test])
    clients, start = [], num_test
    for size in sizes:
        clients.append(Samples(x[start : start + size], y[start : start + size]))
        start += size
    train = Samples(x[num_test:start], y[num_test:start])
    return Dataset("digits", train, test, tuple("0123456789")), clients


def tiny_model(*_: object) -> nn.Sequential:
    """conv1 (40 weights) | conv2 (296) | fc (528) | out (170): 1,034 weights, q = 64, 32, 16 behind the first three."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            fc=nn.Sequential(nn.Linear(32, 16), nn.ReLU()),
            out=nn.Linear(16, 10),
        )
    )


@dataclass(frozen=True)
class Played:
    """A run of some rounds."""

    sim: Sim
    history: History

    @property
    def report(self) -> SimReport:
        return self.history.report()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Of the global model."""
        return self.sim.method.global_model.model.state_dict()


def build(sizes: Sequence[int] = SIZES, **config: Any) -> Sim:
    """A run that is ready to start; config keys as in a file, `method` may be just its kind."""
    if isinstance(config.get("method"), str):
        config["method"] = {"kind": config["method"]}
    cfg = SimConfig.model_validate({"num_clients": len(sizes), "batch": 16, "rounds": 2, "cut": "conv1", **config})
    dataset, clients = digits(sizes)
    return assemble(cfg, dataset, clients)


def play(sizes: Sequence[int] = SIZES, *, resume_after: int | None = None, **config: Any) -> Played:
    """Plays all rounds; with `resume_after` the rounds after that one are played by a new run from the saved state."""
    sim = build(sizes, **config)
    history = History(sim)
    for number in range(1, sim.cfg.rounds + 1):
        rnd = play_round(sim, number)
        history.add(rnd, evaluate(sim.method.evaluated(sim.devices.kept), sim.dataset.test))
        if number == resume_after:
            state = history.state()
            sim = build(sizes, **config)
            history = History(sim)
            history.restore(state)
    return Played(sim, history)


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods are tested with the tiny model, whatever the config names."""
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", tiny_model)


Play = Callable[..., Played]


@pytest.fixture(name="play")
def _play() -> Play:
    return play


def _device(flops_per_s: float) -> dict[str, float]:
    watts = dict.fromkeys(("compute_w", "idle_w", "tx_w", "rx_w"), 1.0)
    return {"flops_per_s": flops_per_s, "memory_bytes": 10**9, **watts}


def _world(*flops_per_s: float, server_flops_per_s: float = 1e18, up_bps: float = 1e15) -> dict[str, Any]:
    return {
        "devices": [_device(one) for one in flops_per_s or (1e18,)],
        "links": [{"up_bps": up_bps, "down_bps": 1e15, "delay_s": 0.0}],
        "server": {"device": _device(server_flops_per_s)},
    }


@pytest.fixture(name="world")
def _world_fixture() -> Callable[..., dict[str, Any]]:
    """Devices of these speeds in turn, on links without delay or jitter; what is not named takes no time."""
    return _world
