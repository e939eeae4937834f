"""All devices in this process, one after the other, in virtual time: the default backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeai.fedsplit.protocol.channel import ChannelEnd
from edgeai.fedsplit.protocol.client_half import ClientHalf, State
from edgeai.fedsplit.protocol.devices import Answer, Devices
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.transport import Reply, Request
from edgeai.fedsplit.world.clock import Clock

MakeHalf = Callable[[int, int, State], ClientHalf]
"""From client, round, and what it kept."""


class InProcess(Devices):
    """Devices as objects of this process.

    Args:
        make_half: Builds a device for one round.
        ends: Both ends of each client's link: the device's, the server's.
        clock: Virtual time.
        ledger: Bytes.
    """

    def __init__(
        self, make_half: MakeHalf, ends: Sequence[tuple[ChannelEnd, ChannelEnd]], clock: Clock, ledger: Ledger
    ) -> None:
        super().__init__([server_end for _, server_end in ends], clock, ledger)
        self._make_half, self._ends = make_half, ends
        self._halves: dict[int, ClientHalf] = {}
        self._kept: dict[int, State] = {}

    def begin(self, number: int) -> None:
        """See `Devices.begin`."""
        self._halves.clear()
        self._round = number

    def end(self) -> None:
        """See `Devices.end`."""
        for client, half in self._halves.items():
            if half.kept:
                self._kept[client] = half.kept
            self.note_memory(client, half.peak_bytes, half.held_bytes)
        self._halves.clear()

    def kept(self, client: int) -> State:
        """See `Devices.kept`."""
        return self._kept.get(client, {})

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """See `Transport.stream`. Devices compute when their answer is looked at."""
        return {client: self._talk(client, op, request) for client, request in requests.items()}

    def state(self) -> dict[str, Any]:
        """See `Devices.state`."""
        return {
            "kept": self._kept,
            "ends": [[end.state() for end in ends] for ends in self._ends],
            "peak_bytes": self.peak_bytes,
            "held_bytes": self.held_bytes,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `Devices.load_state`."""
        self._kept = state["kept"]
        for ends, saved in zip(self._ends, state["ends"], strict=True):
            for end, part in zip(ends, saved, strict=True):
                end.load_state(part)
        self.peak_bytes, self.held_bytes = state["peak_bytes"], state["held_bytes"]

    def _talk(self, client: int, op: str, request: Request) -> Iterator[Reply]:
        client_end, server_end = self._ends[client]
        half = self._halves.get(client)
        if half is None:
            half = self._halves[client] = self._make_half(client, self._round, self._kept.get(client, {}))
        wire = server_end.pack(request.message)
        return (yield from self.timed(client, op, request, wire, answers(half, client_end, op, wire)))


def answers(half: ClientHalf, end: ChannelEnd, op: str, wire: Message) -> Iterator[Answer]:
    """What a device says to one request; the same wherever it runs.

    Args:
        half: The device.
        end: Its end of the link.
        op: What is asked.
        wire: The message, in wire form.
    """
    num_answers = 0
    for message in half.handle(op, end.unpack(wire)):
        num_answers += 1
        flops = half.take_flops()
        yield Answer(end.pack(message), flops)
    if not num_answers:
        yield Answer(None, half.take_flops())
