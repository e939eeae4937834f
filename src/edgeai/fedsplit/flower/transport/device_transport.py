"""The transport interface that Flower messages and gRPC streams implement: requests to devices, answers back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import Message

ONCE_A_ROUND = ("fedavg", "fedprox", "fedsgd", "scaffold", "fedavgm", "fedadam", "local-loss", "cse-fsl")
"""Methods with one request per device and round; a single Flower message carries it."""


class DeviceLost(EdgeAIError):
    """A device sent nothing for too long, or cannot continue its round."""

    def __init__(self, client: int, why: str) -> None:
        super().__init__(f"client {client} is lost: {why}", hint="is its SuperNode running?")
        self.client = client


@dataclass(frozen=True)
class RoundStart:
    """State of a round that devices need at its start."""

    run: str
    """Unique id of this process's run."""
    round: int
    attempt: int
    """Counter over the whole run; a repeated round has a new attempt number."""
    positions: Sequence[int]
    kept: Mapping[int, bytes]
    """Saved device states by client; a missing client has none."""


@dataclass
class DeviceOutcome:
    """State and memory use that a device reports at the end of a round."""

    blob: bytes
    peak_bytes: int
    held_bytes: int


@dataclass
class Traffic:
    """Bytes handed to the transport, summed over a run."""

    down_sent: int = 0
    """Counted at the server."""
    down_received: int = 0
    """Counted at the devices."""
    up_sent: int = 0
    up_received: int = 0
    num_exchanges: int = 0
    first_round: int = 0
    """First round counted; a resumed run starts a new count."""
    by: str = ""
    """Name of the transport: "message" or "stream"."""
    replayed: dict[int, int] = field(default_factory=dict)
    """Number of exchanges that were replayed, by device process id."""

    def to_json(self) -> dict[str, object]:
        """Return plain values for JSON."""
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


class DeviceTransport(Protocol):
    """Connection to the devices of a run, with at most one request per device in flight."""

    traffic: Traffic

    def away(self, clients: Sequence[int]) -> set[int]:
        """Return those of `clients` that cannot be reached now."""

    def begin(self, start: RoundStart) -> None:
        """Start a round, or another attempt at it."""

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """Send one request to each client, without waiting for answers."""

    def pull(self, client: int) -> Iterator[Answer]:
        """Yield the answers to a client's last request.

        Raises:
            DeviceLost: The device sent nothing for too long.
        """

    def finish(self, clients: Sequence[int]) -> dict[int, DeviceOutcome]:
        """End the round at these devices; return what each reports."""
