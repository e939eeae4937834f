"""A run that goes on from a saved state ends as one that was never interrupted: weights, rows, ledger, everything.

The state after the last round is compared value by value: all that a report is made of is in there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgeai.core.checkpoint import load_state, save_state
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.methods.build import METHODS
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.evaluate import evaluate
from edgeai.fedsplit.sim.history import History, hash_weights
from edgeai.fedsplit.sim.train import play_round

ROUNDS = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "adasplit": {"local_rounds": 1},
    "async-sl": {"threshold": 0.01},
    "fsl-sage": {"align_every": 2},
    "hierarchical": {"cloud_every": 2},
}
"""Such that state of the first round counts in the third."""
NEEDS: dict[str, dict[str, Any]] = {
    "fedsl": {"model": {"kind": "gru", "hidden": 6}},
    "vertical": {"partition": {"kind": "vertical"}},
}
"""What a method cannot do without."""
VARIANTS: list[dict[str, Any]] = [
    {"kind": "cyclesl", "sync": False},
    {"kind": "local-loss", "server": "replicas"},
    {"kind": "psl", "sync": False},
    {"kind": "relay", "turn": "batch", "hand_off": "peer"},
    {"kind": "splitfed-v2", "sync": False},
    {"kind": "splitfed-v2", "server_order": "arrival"},
]
EVERY = [*({"kind": kind, **OPTIONS.get(kind, {})} for kind in sorted(METHODS)), *VARIANTS]

UNSTEADY = {
    "devices": ["raspberry-pi-4", "phone"],
    "links": [
        {"up_bps": 2e6, "down_bps": 4e6, "delay_s": 0.02, "jitter_s": 0.01, "loss_frac": 0.1, "packet_bytes": 200},
        "3g",
    ],
    "participation": {
        "availability": {"kind": "markov", "p_drop": 0.3, "p_return": 0.6},
        "per_round": 3,
        "over_select": 1.3,
        "drop_frac": 0.2,
    },
}
COARSE = {"up": {"kind": "uniform", "bits": 3}, "down": {"kind": "uniform", "bits": 4}, "error_feedback": True}
PROTECTION: dict[str, dict[str, Any]] = {"noise": {}, "labels": {}, "dp_sgd": {"noise_multiplier": 2.0}}
WITHOUT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("fedadam", "fedasync", "fedavg", "fedavgm", "fedprox", "fedsgd", "scaffold"), ("noise",)),
    "hsfl": ("noise",),
    **dict.fromkeys(("adasplit", "epsl", "mergesfl", "sfl-ga", "sglr", "ushape"), ("dp_sgd",)),
    "fedsl": ("noise", "labels", "dp_sgd", "codec"),
}
"""What a method refuses, for reasons of its own."""


def config(method: Mapping[str, Any], **changes: Any) -> SimConfig:
    document = {
        "data": {"kind": "digits", "num_train": 80, "num_test": 10},
        "model": {"kind": "mlp", "hidden": [12, 7]},
        "num_clients": 4,
        "batch": 12,
        "cut": 1,
        "rounds": ROUNDS,
        "method": dict(method),
        **NEEDS.get(method["kind"], {}),
        **changes,
    }
    return SimConfig.model_validate(document)


def play_on(history: History, sim: Sim, first: int) -> Iterator[int]:
    """Plays the rounds from `first` on; yields the number of each that has ended."""
    for number in range(first, ROUNDS + 1):
        rnd = play_round(sim, number)
        history.add(rnd, evaluate(sim.method.evaluated(sim.devices.kept), sim.dataset.test))
        yield number


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    """Compares states value by value, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, Sequence) and not isinstance(one, str):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{number}]")
    else:
        assert one == other or (one != one and other != other), where  # a NaN is itself here


def assert_resumes(cfg: SimConfig, folder: Path) -> None:
    """Interrupts after each round but the last, as a file would keep it, and compares the ends."""
    sim = build_sim(cfg)
    whole = History(sim)
    for number in play_on(whole, sim, 1):
        (folder / str(number)).mkdir()
        save_state(folder / str(number), whole.state())
    weights_hash = hash_weights(sim.method)
    for after in range(1, ROUNDS):
        sim = build_sim(cfg)
        resumed = History(sim)
        resumed.restore(load_state(folder / str(after)))
        list(play_on(resumed, sim, after + 1))
        assert_same(resumed.state(), whole.state())
        assert hash_weights(sim.method) == weights_hash


@pytest.fixture(autouse=True)
def _real_models(_tiny_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


def named(method: Mapping[str, Any]) -> str:
    return " ".join(map(str, method.values()))


@pytest.mark.parametrize("method", EVERY, ids=named)
def test_goes_on_as_if_nothing_had_happened(method: dict[str, Any], tmp_path: Path) -> None:
    """Clients come and go, links jitter, codecs remember what they dropped, noise and clipping protect."""
    optim = {"lr": 0.05, "momentum": 0.0 if method["kind"] == "scaffold" else 0.9}
    privacy = {name: how for name, how in PROTECTION.items() if name not in WITHOUT.get(method["kind"], ())}
    codec = {} if "codec" in WITHOUT.get(method["kind"], ()) else COARSE
    assert_resumes(config(method, world=UNSTEADY, codec=codec, privacy=privacy, optim=optim), tmp_path)


def test_a_model_that_draws_at_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_dropout(*_: object) -> nn.Sequential:
        first, rest = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Dropout(0.5)), nn.Linear(12, 10)
        return nn.Sequential(first, rest)

    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", with_dropout)
    assert_resumes(config({"kind": "splitfed-v2"}), tmp_path)


def test_the_comparison_sees_a_bit() -> None:
    one, other = ({"a": [torch.zeros(2), {"b": 1.0}]} for _ in range(2))
    assert_same(one, other)
    other["a"][0][1] = 1e-30
    with pytest.raises(AssertionError, match=r"state\.a\[0\]"):
        assert_same(one, other)
