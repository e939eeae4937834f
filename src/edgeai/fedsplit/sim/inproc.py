"""In-process backend (default): all devices run in this process, one after the other, in virtual time."""

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

BuildHalf = Callable[[int, int, State], ClientHalf]
"""From client, round and kept state to the client half."""


class InProcess(Devices):
    """Devices as objects of this process.

    Args:
        build_half: Builds a client half for one round.
        ends: Both ends of each client's link: the device's end, the server's end.
        clock: Virtual clock.
        ledger: Byte ledger.
    """

    def __init__(
        self, build_half: BuildHalf, ends: Sequence[tuple[ChannelEnd, ChannelEnd]], clock: Clock, ledger: Ledger
    ) -> None:
        super().__init__([server_end for _, server_end in ends], clock, ledger)
        self._build_half, self._ends = build_half, ends
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
        """See `Transport.stream`. A device computes when its reply is read."""
        return {client: self._exchange(client, op, request) for client, request in requests.items()}

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

    def _exchange(self, client: int, op: str, request: Request) -> Iterator[Reply]:
        client_end, server_end = self._ends[client]
        half = self._halves.get(client)
        if half is None:
            half = self._halves[client] = self._build_half(client, self._round, self._kept.get(client, {}))
        wire = server_end.pack(request.message)
        return (yield from self.timed(client, op, request, wire, answers(half, client_end, op, wire)))


def answers(half: ClientHalf, end: ChannelEnd, op: str, wire: Message) -> Iterator[Answer]:
    """Yield a device's answers to one request; the same on every backend.

    Args:
        half: Client half.
        end: The device's end of the link.
        op: Name of the operation.
        wire: Request message in wire form.
    """
    num_answers = 0
    for message in half.handle(op, end.unpack(wire)):
        num_answers += 1
        flops = half.take_flops()
        yield Answer(end.pack(message), flops)
    if not num_answers:
        yield Answer(None, half.take_flops())
