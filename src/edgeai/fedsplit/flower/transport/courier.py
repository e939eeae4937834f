"""Brings requests to devices and answers back; what differs between Flower messages and a stream of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import Message

ONCE_A_ROUND = ("fedavg", "fedprox", "fedsgd", "scaffold", "fedavgm", "fedadam", "local-loss", "cse-fsl")
"""Methods that ask a device once a round: a Flower message does for them."""


class DeviceLost(EdgeAIError):
    """A device has said nothing for too long, or cannot go on with its round."""

    def __init__(self, client: int, why: str) -> None:
        super().__init__(f"client {client} is lost: {why}", hint="is its SuperNode running?")
        self.client = client


@dataclass(frozen=True)
class Outset:
    """What a round begins with at the devices."""

    run: str
    """Tells this process's run from all others."""
    round: int
    attempt: int
    """Counts through the run; a round that is played again is another attempt."""
    positions: Sequence[int]
    kept: Mapping[int, bytes]
    """What devices kept, by client; nothing where one is missing."""


@dataclass
class Outcome:
    """What a device said about itself at a round's end."""

    blob: bytes
    peak_bytes: int
    held_bytes: int


@dataclass
class Traffic:
    """Real bytes as they were handed to the transport, summed over a run."""

    down_sent: int = 0
    """By the server."""
    down_received: int = 0
    """By the devices."""
    up_sent: int = 0
    up_received: int = 0
    num_exchanges: int = 0
    first_round: int = 0
    """Counted since then: a resumed run is another process."""
    by: str = ""
    """Which transport."""
    replayed: dict[int, int] = field(default_factory=dict)
    """Exchanges that device processes played again, by process."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "transport": self.by,
            "down_sent_bytes": self.down_sent,
            "down_received_bytes": self.down_received,
            "up_sent_bytes": self.up_sent,
            "up_received_bytes": self.up_received,
            "num_exchanges": self.num_exchanges,
            "first_round": self.first_round,
            "num_replayed": sum(self.replayed.values()),
        }


class Courier(Protocol):
    """The way to the devices of a run. One request a device is under way at a time."""

    traffic: Traffic

    def away(self, clients: Sequence[int]) -> set[int]:
        """Those of them that cannot be reached now."""

    def begin(self, outset: Outset) -> None:
        """Starts a round, or another attempt at one."""

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """Sends requests on their way, by client."""

    def pull(self, client: int) -> Iterator[Answer]:
        """The answers to the last request of a client.

        Raises:
            DeviceLost: It says nothing for too long.
        """

    def finish(self, clients: Sequence[int]) -> dict[int, Outcome]:
        """Ends the round of those devices."""
