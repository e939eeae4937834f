"""All devices in this process, one after the other, in virtual time: the default backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeai.core.link import Direction
from edgeai.fedsplit.channel import ChannelEnd
from edgeai.fedsplit.clock import Clock
from edgeai.fedsplit.halves import ClientHalf, State
from edgeai.fedsplit.ledger import Ledger
from edgeai.fedsplit.message import KINDS, Message
from edgeai.fedsplit.transport import Reply, Request

MakeHalf = Callable[[int, int, State], ClientHalf]
"""From client, round, and what it kept."""


class InProcess:
    """Every device of the world, of which those that take part in a round are awake.

    Args:
        make_half: Builds a device for one round.
        ends: Both ends of each client's link: the device's, the server's.
        clock: Virtual time.
        ledger: Bytes.
    """

    def __init__(
        self, make_half: MakeHalf, ends: Sequence[tuple[ChannelEnd, ChannelEnd]], clock: Clock, ledger: Ledger
    ) -> None:
        self._make_half, self._ends, self._clock, self._ledger = make_half, ends, clock, ledger
        self._halves: dict[int, ClientHalf] = {}
        self._kept: dict[int, State] = {}
        self._round = 0
        self.peak_bytes: dict[int, int] = {}
        """Largest memory each device held, over all rounds."""
        self.held_bytes: dict[int, int] = {}
        """Largest share of it that waited for the server."""

    def begin(self, number: int) -> None:
        """Starts a round: devices wake up when they are first asked."""
        self._halves.clear()
        self._round = number

    def end(self) -> None:
        """Ends a round: devices keep what they want to keep, and sleep."""
        for client, half in self._halves.items():
            if half.kept:
                self._kept[client] = half.kept
            self.peak_bytes[client] = max(self.peak_bytes.get(client, 0), half.peak_bytes)
            self.held_bytes[client] = max(self.held_bytes.get(client, 0), half.held_bytes)
        self._halves.clear()

    def kept(self, client: int) -> State:
        """What a device keeps between rounds."""
        return self._kept.get(client, {})

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """See `Transport.stream`. Devices compute when their answer is looked at."""
        return {client: self._talk(client, op, request) for client, request in requests.items()}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs; taken between rounds."""
        return {
            "kept": self._kept,
            "ends": [[end.state() for end in ends] for ends in self._ends],
            "peak_bytes": self.peak_bytes,
            "held_bytes": self.held_bytes,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self._kept = state["kept"]
        for ends, saved in zip(self._ends, state["ends"], strict=True):
            for end, part in zip(ends, saved, strict=True):
                end.load_state(part)
        self.peak_bytes, self.held_bytes = state["peak_bytes"], state["held_bytes"]

    def _talk(self, client: int, op: str, request: Request) -> Iterator[Reply]:
        """One request and its answers. An op that answers nothing gives one empty reply, which crosses nothing."""
        client_end, server_end = self._ends[client]
        half = self._halves.get(client)
        if half is None:
            half = self._halves[client] = self._make_half(client, self._round, self._kept.get(client, {}))
        wire = server_end.pack(request.message)
        at_s = request.at_s
        if request.is_copy:
            at_s = self._clock.send(client, "down", sum(map(wire.num_bytes, KINDS)), at_s, "down")
        elif not request.from_peer:
            at_s = self._cross(client, "down", wire, at_s)
        num_answers = 0
        for answer in half.handle(op, client_end.unpack(wire)):
            num_answers += 1
            at_s = self._clock.work(client, half.take_flops(), at_s, op)
            wire = client_end.pack(answer)
            arrival_s = self._cross(client, "up", wire, at_s)
            yield Reply(client, server_end.unpack(wire), arrival_s, at_s)
        if not num_answers:
            at_s = self._clock.work(client, half.take_flops(), at_s, op)
            yield Reply(client, Message(), at_s, at_s)

    def _cross(self, client: int, direction: Direction, wire: Message, at_s: float) -> float:
        num_bytes = self._ledger.charge(self._round, client, direction, wire)
        return self._clock.send(client, direction, num_bytes, at_s, direction) if num_bytes else at_s
