"""Bytes of every method against the reference's cost table, restated here with nothing but arithmetic.

The tiny net: conv1 (40 weights, 64 values behind it) | conv2 (296) | fc (528, 16 values behind it) | out (170). The cut
is behind conv1, two local epochs, batch 16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from edgeai.fedsplit.methods.build import METHODS
from edgeai.fedsplit.protocol.ledger import RELAY, LedgerTotals

S, LABEL, E, BATCH = 4, 8, 2, 16
Q, Q_TAIL, CLASSES = 64 * S, 16 * S, 10 * S
C, TAIL, N = 40 * S, 170 * S, (40 + 296 + 528 + 170) * S
HEAD, DECODER = (64 * 10 + 10) * S, (4 * 2 * 2 + 1) * S
RAGGED, EQUAL = (40, 56, 33), (48, 48, 48)
K, NUM_RAGGED, NUM_EQUAL, STEPS = 3, sum(RAGGED), sum(EQUAL), E * 3

WITHOUT = {
    "adasplit": "who sends is chosen by the loss",
    "async-sl": "what crosses follows the loss",
    "fedasync": "jobs that begin in a round depend on times",
    "fedsl": "its clients hold segments of sequences",
    "mergesfl": "batches follow the devices' speed",
    "vertical": "its clients hold columns",
}
"""Methods whose bytes are no formula of this table; each has a test of its own."""


@dataclass(frozen=True)
class Row:
    """One row of the table: bytes of one round by kind; kinds that are not named are zero."""

    method: Mapping[str, Any]
    up: Mapping[str, int] = field(default_factory=dict)
    down: Mapping[str, int] = field(default_factory=dict)
    between_up: Mapping[str, int] = field(default_factory=dict)
    """Between servers."""
    between_down: Mapping[str, int] = field(default_factory=dict)
    sizes: Sequence[int] = RAGGED
    epochs: int = E


def of(kind: str, **options: Any) -> dict[str, Any]:
    return {"kind": kind, **options}


def u(num: int = NUM_RAGGED) -> dict[str, int]:
    """U: E n (q s + l)."""
    return {"activations": E * num * Q, "labels": E * num * LABEL}


def d(num: int = NUM_RAGGED) -> dict[str, int]:
    """D: E n q s."""
    return {"gradients": E * num * Q}


def w(num_bytes: int) -> dict[str, int]:
    """So many bytes of weights for each client."""
    return {"weights": K * num_bytes}


def every(h: int) -> dict[str, int]:
    """U of batches 1, h + 1, 2 h + 1 ... of each client, numbered through both epochs."""
    num = 0
    for size in RAGGED:
        batches = [min(BATCH, size - start) for start in range(0, size, BATCH)] * E
        num += sum(batches[::h])
    return {"activations": num * Q, "labels": num * LABEL}


SHRINK = {"uneven": "shrink"}
NUM_STOPPED = 2 * 40 + (56 + 32) + 2 * 33  # in six steps, as many as clients 0 and 2 have batches
STOPPED = {"activations": NUM_STOPPED * Q, "labels": NUM_STOPPED * LABEL}
ROWS = [
    *(Row(of(kind), w(N), w(N)) for kind in ("fedavg", "fedprox", "fedavgm", "fedadam")),
    Row(of("fedsgd"), w(N), w(N), epochs=1),
    Row(of("scaffold"), w(2 * N), w(2 * N)),
    *(Row(of(kind), u() | w(C), d() | w(C)) for kind in ("relay", "splitfed-v1", "splitfed-v2", "sflg", "cyclesl")),
    *(Row(of(kind, **SHRINK), u() | w(C), d() | w(C)) for kind in ("psl", "cpsl")),
    Row(of("relay", turn="client", hand_off="peer"), u() | w(C), d() | {"weights": C}),  # the first turn's is sent down
    Row(of("splitfed-v3"), u(), d()),
    *(Row(of(kind, sync=False), u(), d()) for kind in ("splitfed-v2", "cyclesl")),
    Row(of("psl", sync=False, **SHRINK), u(), d()),
    Row(of("psl", uneven="stop"), STOPPED | w(C), {"gradients": STOPPED["activations"]} | w(C)),
    Row(
        of("ushape"),
        {"activations": E * NUM_RAGGED * Q, "gradients": E * NUM_RAGGED * Q_TAIL} | w(C + TAIL),
        {"activations": E * NUM_RAGGED * Q_TAIL, "gradients": E * NUM_RAGGED * Q} | w(C + TAIL),
    ),
    Row(
        of("multihop"),
        u() | w(C),
        d() | w(C),
        {"activations": E * NUM_RAGGED * Q_TAIL, "labels": E * NUM_RAGGED * LABEL},
        {"gradients": E * NUM_RAGGED * Q_TAIL},
    ),
    Row(of("local-loss"), u() | w(C + HEAD), w(C + HEAD)),
    Row(of("local-loss", server="replicas"), u() | w(C + HEAD), w(C + HEAD)),
    *(Row(of("cse-fsl", h=h), every(h) | w(C + HEAD), w(C + HEAD)) for h in (1, 3, 5)),
    Row(of("fsl-sage", h=2), every(2) | w(C), w(C)),  # heads go down in the round after a fit
    Row(of("sglr", average_frac=2 / 3), u(NUM_EQUAL), {"gradients": STEPS * 2 * Q + E * 48 * Q}, sizes=EQUAL),
    Row(of("epsl", aggregate_frac=0.5), u(NUM_EQUAL), {"gradients": STEPS * (8 + K * 8) * Q}, sizes=EQUAL),
    Row(of("sfl-ga"), u(NUM_EQUAL), {"gradients": STEPS * BATCH * Q}, sizes=EQUAL),
    Row(of("locfedmix-sl", **SHRINK), u() | w(C + DECODER), d() | w(C + DECODER)),
    Row(
        of("fedgkt"),
        {"activations": NUM_RAGGED * Q, "labels": NUM_RAGGED * LABEL, "side": NUM_RAGGED * CLASSES},
        {"side": NUM_RAGGED * CLASSES},
    ),
    Row(
        of("hsfl", split_frac=2 / 3),
        u(2 * 48) | {"weights": N + 2 * C},
        d(2 * 48) | {"weights": N + 2 * C},
        sizes=EQUAL,
    ),
    Row(
        of("hierarchical", edges=2, cloud_every=1),
        u() | w(C),
        d() | w(C),
        {"weights": 2 * N},
        {"weights": 2 * N},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(map(str, row.method.values())))
def test_bytes_are_the_tables(play: Any, row: Row) -> None:
    ledger = play(row.sizes, method=dict(row.method), rounds=1, local_epochs=row.epochs, batch=BATCH).sim.ledger
    clients = LedgerTotals()
    for client in range(K):
        clients = clients.plus(ledger.of_client(client))
    between = ledger.of_client(RELAY)
    found = [clients.up, clients.down, between.up, between.down]
    expected = [row.up, row.down, row.between_up, row.between_down]
    assert [{kind: count for kind, count in way.items() if count} for way in found] == expected


def test_every_method_has_a_row_or_a_reason() -> None:
    in_table = {str(row.method["kind"]) for row in ROWS}
    assert in_table.isdisjoint(WITHOUT)
    assert set(METHODS) - set(WITHOUT) == in_table
