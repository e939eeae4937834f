"""Every method keeps to its declared signature: kinds that it does not name never cross, those that it names do."""

from __future__ import annotations

from typing import Any

import pytest

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.methods.build import METHODS
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.protocol.ledger import LedgerTotals
from edgeai.fedsplit.protocol.message import KINDS
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.train import play_round

VARIANTS: list[dict[str, Any]] = [
    {"kind": "adasplit", "local_rounds": 0},
    {"kind": "cyclesl", "sync": False},
    {"kind": "hsfl", "split_frac": 0.0},
    {"kind": "hsfl", "split_frac": 1.0},
    {"kind": "local-loss", "server": "replicas"},
    {"kind": "psl", "sync": False},
    {"kind": "relay", "turn": "batch", "hand_off": "peer"},
    {"kind": "splitfed-v2", "sync": False},
]
"""Beside every method as it comes."""
NEEDS: dict[str, dict[str, Any]] = {
    "fedsl": {"model": {"kind": "gru", "hidden": 6}, "num_clients": 4},
    "vertical": {"partition": {"kind": "vertical"}},
}
"""What a method cannot do without."""
SILENT = {"kind": "adasplit"}
"""Begins with its local phase, in which nothing crosses."""


@pytest.fixture(autouse=True)
def _real_models(_tiny_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


def first_round(method: dict[str, Any]) -> Sim:
    document = {
        "data": {"kind": "digits", "num_train": 120, "num_test": 10},
        "model": {"kind": "mlp", "hidden": [12, 7]},
        "num_clients": 3,
        "batch": 16,
        "cut": 1,
        "method": method,
        **NEEDS.get(method["kind"], {}),
    }
    sim = build_sim(SimConfig.model_validate(document))
    play_round(sim, 1)
    return sim


def of_clients(sim: Sim) -> LedgerTotals:
    """What crossed between clients and the server, without traffic between servers."""
    total = LedgerTotals()
    for client in range(sim.cfg.num_clients):
        total = total.plus(sim.ledger.of_client(client))
    return total


def named(method: dict[str, Any]) -> str:
    return " ".join(map(str, method.values()))


@pytest.mark.parametrize("method", [*({"kind": kind} for kind in sorted(METHODS)), *VARIANTS], ids=named)
def test_only_what_the_signature_names_crosses(method: dict[str, Any]) -> None:
    sim = first_round(method)
    totals, signature = of_clients(sim), sim.method.signature
    crossed = {f"{kind}_up" for kind in KINDS if totals.up[kind]}
    crossed |= {f"{kind}_down" for kind in KINDS if totals.down[kind]}
    declared = {name for name, is_there in vars(signature).items() if is_there}
    assert crossed == (set() if method == SILENT else declared)
