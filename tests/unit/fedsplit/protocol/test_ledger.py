"""The ledger against sums of nbytes."""

import json

import pytest
import torch

from edgeai.fedsplit.protocol.ledger import RELAY, Ledger
from edgeai.fedsplit.protocol.message import KINDS, Message


def message() -> Message:
    """One of every kind, of different types: 48, 6, 40, 16 and 3 bytes."""
    return Message(
        activations={"z": torch.zeros(3, 4)},
        gradients={"z": torch.zeros(3, dtype=torch.float16)},
        weights={"a": torch.zeros(2, 4), "steps": torch.zeros((), dtype=torch.int64)},
        labels={"y": torch.zeros(2, dtype=torch.int64)},
        side={"scale": torch.zeros(3, dtype=torch.uint8)},
        options={"step": 7, "name": "not charged"},
    )


BY_KIND = {"activations": 48, "gradients": 6, "weights": 40, "labels": 16, "side": 3}
NONE = dict.fromkeys(KINDS, 0)


def filled() -> Ledger:
    ledger = Ledger()
    assert ledger.charge(1, 0, "up", message()) == 113
    ledger.charge(1, 2, "down", message())
    ledger.charge(2, 2, "down", message())
    ledger.charge(2, RELAY, "up", Message(weights={"w": torch.zeros(5)}))
    return ledger


def test_bytes_are_counted_by_kind_and_direction() -> None:
    totals = filled().totals
    assert totals.up == {**BY_KIND, "weights": 40 + 20}
    assert totals.down == {kind: 2 * number for kind, number in BY_KIND.items()}
    assert (totals.up_bytes, totals.down_bytes, totals.num_bytes) == (133, 226, 359)


def test_bytes_are_counted_by_round_and_client() -> None:
    ledger = filled()
    assert (ledger.of_round(1).up, ledger.of_round(1).down) == (BY_KIND, BY_KIND)
    assert ledger.of_round(2).up == {**NONE, "weights": 20}
    assert (ledger.of_client(0).up, ledger.of_client(0).down) == (BY_KIND, NONE)
    assert ledger.of_client(2).down_bytes == 226
    assert ledger.of_client(RELAY).num_bytes == 20
    assert ledger.clients == [RELAY, 0, 2]
    assert ledger.of_client(9).num_bytes == ledger.of_round(9).num_bytes == 0


def test_rounds_and_clients_add_up_to_the_totals() -> None:
    ledger = filled()
    rounds, clients = (ledger.of_round(1), ledger.of_round(2)), [ledger.of_client(k) for k in ledger.clients]
    assert rounds[0].plus(rounds[1]) == ledger.totals
    assert clients[0].plus(clients[1]).plus(clients[2]) == ledger.totals


def test_a_resumed_ledger_goes_on() -> None:
    straight, resumed = filled(), Ledger()
    resumed.load_state(json.loads(json.dumps(straight.state())))
    for ledger in (straight, resumed):
        ledger.charge(2, 0, "up", message())
    assert resumed.state() == straight.state()
    assert resumed.of_client(0).up_bytes == 226


def test_a_view_costs_what_it_shows_and_nothing_is_free_but_options() -> None:
    ledger = Ledger()
    wide = torch.zeros(100, 4)
    assert ledger.charge(1, 0, "up", Message(activations={"z": wide[:3]})) == 48
    assert ledger.charge(1, 0, "up", Message(options={"go": True})) == 0


def test_totals_are_frozen() -> None:
    with pytest.raises(AttributeError):
        filled().totals.up = {}  # type: ignore[misc]
