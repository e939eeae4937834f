"""Devices as the server reaches them: whatever the way there, bytes are counted and virtual time passes the same."""

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
    """What a device says to one request, and what it cost the device."""

    wire: Message | None
    """In wire form; None where an op answers nothing."""
    flops: float
    """Computed since the answer before."""


class Devices(ABC):
    """Every device of the world, of which those that take part in a round are awake.

    Args:
        ends: The server's end of each client's link.
        clock: Virtual time.
        ledger: Bytes.
    """

    def __init__(self, ends: Sequence[ChannelEnd], clock: Clock, ledger: Ledger) -> None:
        self._server_ends, self._clock, self._ledger = ends, clock, ledger
        self._round = 0
        self.peak_bytes: dict[int, int] = {}
        """Largest memory each device held, over all rounds."""
        self.held_bytes: dict[int, int] = {}
        """Largest share of it that waited for the server."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Starts a round: devices wake up when they are first asked."""

    @abstractmethod
    def end(self) -> None:
        """Ends a round: devices keep what they want to keep, and sleep."""

    @abstractmethod
    def kept(self, client: int) -> State:
        """What a device keeps between rounds."""

    @abstractmethod
    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """See `Transport.stream`."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a resumed run needs; taken between rounds."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""

    def note_memory(self, client: int, peak_bytes: int, held_bytes: int) -> None:
        """Remembers what a device held."""
        self.peak_bytes[client] = max(self.peak_bytes.get(client, 0), peak_bytes)
        self.held_bytes[client] = max(self.held_bytes.get(client, 0), held_bytes)

    def timed(
        self, client: int, op: str, request: Request, wire: Message, answers: Iterator[Answer]
    ) -> Iterator[Reply]:
        """Charges and times a request and its answers. One without an answer gives an empty reply, which crosses
        nothing.

        Args:
            client: Whose.
            op: What was asked.
            request: As the method made it.
            wire: Its message in wire form.
            answers: As they come.
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
