"""A run over messages equals the run in one process, to the bit and to the byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeai.fedsplit.sim.build import build_sim

from .conftest import config, devices_on, outcome_of

SIX: tuple[dict[str, Any], ...] = (
    {"kind": "fedavg"},
    {"kind": "relay"},
    {"kind": "splitfed-v1"},
    {"kind": "splitfed-v2"},
    {"kind": "local-loss"},
    {"kind": "cse-fsl", "h": 2},
)


@pytest.mark.parametrize("method", SIX, ids=lambda method: method["kind"])
def test_messages_change_nothing(method: dict[str, Any], grid: Callable[..., Any]) -> None:
    cfg = config(method=method)
    assert outcome_of(devices_on(grid(), cfg)) == outcome_of(build_sim(cfg))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "splitfed-v3"},
        {"method": "scaffold"},
        {"method": "splitfed-v2", "codec": {"up": {"kind": "topk", "frac": 0.1}, "error_feedback": True}},
        {"method": "splitfed-v2", "privacy": {"noise": {"scale": 0.5}, "nopeek": {}}, "batch": 512},
        {"method": "fedavg", "privacy": {"dp_sgd": {}}, "batch": 512, "rounds": 1},
    ],
    ids=["kept weights", "kept variates", "codec state", "noise", "dp"],
)
def test_what_devices_keep_comes_along(changes: dict[str, Any], grid: Callable[..., Any]) -> None:
    cfg = config(**changes)
    assert outcome_of(devices_on(grid(), cfg)) == outcome_of(build_sim(cfg))


def test_exchanges_may_land_in_other_processes(grid: Callable[..., Any]) -> None:
    cfg = config(method="splitfed-v2", rounds=1)
    two = grid(2)
    assert outcome_of(devices_on(two, cfg)) == outcome_of(build_sim(cfg))
    assert sum(program.num_replayed for program in two.programs) > 0, "the case was not met"
