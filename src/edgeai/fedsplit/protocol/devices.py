"""Base class of all backends: bytes are counted and virtual time passes the same on each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.core.link import Direction
from edgeai.fedsplit.protocol.channel import ChannelEnd
from edgeai.fedsplit.protocol.client_half import State
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.message import KINDS, Message
from edgeai.fedsplit.protocol.transport import Reply, Request
from edgeai.fedsplit.world.clock import Clock


@dataclass(frozen=True)
class Answer:
    """One answer of a device, with its computing cost."""

    wire: Message | None
    """Message in wire form; None if the operation has no answer."""
    flops: float
    """FLOPs computed since the previous answer."""


class Devices(ABC):
    """All devices of a run. Those that take part in a round are active during it.

    Args:
        ends: The server's end of each client's link.
        clock: Virtual clock.
        ledger: Byte ledger.
    """

    def __init__(self, ends: Sequence[ChannelEnd], clock: Clock, ledger: Ledger) -> None:
        self._server_ends, self._clock, self._ledger = ends, clock, ledger
        self._round = 0
        self.peak_bytes: dict[int, int] = {}
        """Peak memory of each device over all rounds."""
        self.held_bytes: dict[int, int] = {}
        """Peak memory that each device held while the server computed."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Start a round. A device becomes active with its first request."""

    @abstractmethod
    def end(self) -> None:
        """End a round. Devices save the state that they keep."""

    @abstractmethod
    def kept(self, client: int) -> State:
        """Return the state that a device keeps between rounds."""

    @abstractmethod
    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """See `Transport.stream`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return the state for resuming. Only between rounds."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""

    def note_memory(self, client: int, peak_bytes: int, held_bytes: int) -> None:
        """Record the memory of a device."""
        self.peak_bytes[client] = max(self.peak_bytes.get(client, 0), peak_bytes)
        self.held_bytes[client] = max(self.held_bytes.get(client, 0), held_bytes)

    def timed(
        self, client: int, op: str, request: Request, wire: Message, answers: Iterator[Answer]
    ) -> Iterator[Reply]:
        """Charge and time a request and its answers.

        An operation without an answer yields an empty reply, which sends nothing.

        Args:
            client: Number of the device.
            op: Name of the operation.
            request: Request of the method.
            wire: The request's message in wire form.
            answers: Answers of the device, as they are computed.

        Yields:
            Replies as the method sees them.
        """
        at_s = request.at_s
        if request.is_copy:
            at_s = self._clock.send(client, "down", sum(map(wire.num_bytes, KINDS)), at_s, "down")
        elif not request.from_peer:
            at_s = self._cross(client, "down", wire, at_s)
        at_s = self._clock.start(client, at_s)
        for answer in answers:
            at_s = self._clock.work(client, answer.flops, at_s, op)
            if answer.wire is None:
                yield Reply(client, Message(), at_s, at_s)
            else:
                arrival_s = self._cross(client, "up", answer.wire, at_s)
                yield Reply(client, self._server_ends[client].unpack(answer.wire), arrival_s, at_s)

    def _cross(self, client: int, direction: Direction, wire: Message, at_s: float) -> float:
        num_bytes = self._ledger.charge(self._round, client, direction, wire)
        return self._clock.send(client, direction, num_bytes, at_s, direction) if num_bytes else at_s
