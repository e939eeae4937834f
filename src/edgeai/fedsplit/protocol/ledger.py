"""Byte ledger: counts every byte sent, by kind, direction, client and round. Methods never count bytes themselves.

Counted are the bytes of tensors in wire form: number of elements times element size, including labels and side
information, without framing and control fields. This measurement contract makes methods comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeai.core.link import Direction
from edgeai.fedsplit.protocol.message import KINDS, Kind, Message

RELAY = -1
"""Number of the traffic between servers and relays, where a client number is expected."""


@dataclass(frozen=True)
class LedgerTotals:
    """Bytes by kind in each direction; "up" is towards the server. Every kind has an entry, even with zero bytes."""

    up: Mapping[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    down: Mapping[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @property
    def up_bytes(self) -> int:
        return sum(self.up.values())

    @property
    def down_bytes(self) -> int:
        return sum(self.down.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of both directions."""
        return self.up_bytes + self.down_bytes

    def plus(self, other: LedgerTotals) -> LedgerTotals:
        return LedgerTotals(
            {kind: self.up[kind] + other.up[kind] for kind in KINDS},
            {kind: self.down[kind] + other.down[kind] for kind in KINDS},
        )


class Ledger:
    """Bytes of one run, as sums per client and per round."""

    def __init__(self) -> None:
        self._by_round: dict[int, list[int]] = {}
        self._by_client: dict[int, list[int]] = {}

    def charge(self, round_number: int, client: int, direction: Direction, message: Message) -> int:
        """Count a message.

        Args:
            round_number: Number of the current round.
            client: Client that sends or receives it, or RELAY.
            direction: "up" is towards the server.
            message: Message in wire form.

        Returns:
            Bytes of the message.
        """
        first = 0 if direction == "up" else len(KINDS)
        in_round = self._by_round.get(round_number) or self._open(self._by_round, round_number)
        of_client = self._by_client.get(client) or self._open(self._by_client, client)
        total = 0
        for number, kind in enumerate(KINDS, first):
            if num_bytes := message.num_bytes(kind):
                in_round[number] += num_bytes
                of_client[number] += num_bytes
                total += num_bytes
        return total

    @property
    def totals(self) -> LedgerTotals:
        """Bytes of the whole run, including traffic between servers."""
        total = LedgerTotals()
        for counts in self._by_client.values():
            total = total.plus(_totals(counts))
        return total

    def of_round(self, round_number: int) -> LedgerTotals:
        """Return the bytes of one round."""
        return _totals(self._by_round.get(round_number) or [0] * (2 * len(KINDS)))

    def of_client(self, client: int) -> LedgerTotals:
        """Return the bytes of one client, or of RELAY."""
        return _totals(self._by_client.get(client) or [0] * (2 * len(KINDS)))

    @property
    def clients(self) -> list[int]:
        """Clients that sent or received, ascending; RELAY first if there was such traffic."""
        return sorted(self._by_client)

    def state(self) -> dict[str, Any]:
        """Return all counts as plain lists."""
        return {
            "rounds": [[number, *counts] for number, counts in self._by_round.items()],
            "clients": [[number, *counts] for number, counts in self._by_client.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._by_round = {number: counts for number, *counts in state["rounds"]}
        self._by_client = {number: counts for number, *counts in state["clients"]}

    @staticmethod
    def _open(table: dict[int, list[int]], number: int) -> list[int]:
        counts = table[number] = [0] * (2 * len(KINDS))
        return counts


def _totals(counts: list[int]) -> LedgerTotals:
    up, down = counts[: len(KINDS)], counts[len(KINDS) :]
    return LedgerTotals(dict(zip(KINDS, up, strict=True)), dict(zip(KINDS, down, strict=True)))
