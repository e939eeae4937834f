"""One Flower message a device and round, by which the device opens a stream for all exchanges of the round."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid

from edgeai.fedsplit.flower.client_program import END
from edgeai.fedsplit.flower.device import digest_of
from edgeai.fedsplit.flower.transport.courier import Courier, DeviceLost, Outcome, Outset, Traffic
from edgeai.fedsplit.flower.transport.roster import Roster
from edgeai.fedsplit.flower.transport.stream_line import Line, answer_of
from edgeai.fedsplit.flower.transport.stream_service import StreamService
from edgeai.fedsplit.flower.transport.wire_records import payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message

_LOOK_S = 0.5  # between two looks for what Flower says of a device that is silent


@dataclass(frozen=True)
class Address:
    """Where devices find the service."""

    where: str
    root: str = ""
    """PEM; empty for an open link."""


class StreamCourier(Courier):
    """The way to devices by streams.

    Args:
        grid: Flower's.
        roster: Which node is which client.
        text: The run's config for devices.
        service: Takes the links.
        address: Where it is, as devices see it.
        traffic: Of the service.
        threads: Of torch on devices.
        chunk_bytes: Of what goes up.
        silence_s: After which a device is lost.
        start_s: The same before its first word in a round.
    """

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        text: str,
        service: StreamService,
        address: Address,
        traffic: Traffic,
        *,
        threads: int,
        chunk_bytes: int,
        silence_s: float,
        start_s: float,
    ) -> None:
        self._grid, self._roster, self._text, self._service = grid, roster, text, service
        self._address, self._threads, self._chunk_bytes, self._silence_s = address, threads, chunk_bytes, silence_s
        self._start_s = start_s
        self._outset = Outset("", 0, 0, (), {})
        self._asked: dict[str, int] = {}  # clients by message id
        self._looked_s = 0.0
        self.traffic = traffic
        traffic.by = "stream"

    def away(self, clients: Sequence[int]) -> set[int]:
        """See `Courier.away`."""
        self._roster.refresh()
        return {client for client in clients if client not in self._roster.node_of}

    def begin(self, outset: Outset) -> None:
        """See `Courier.begin`. Devices of the attempt before are told that it is over."""
        for line in self._service.lines.values():
            line.close()
        self._service.lines.clear()
        self._asked.clear()
        self._outset = outset

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """See `Courier.push`."""
        for client, wire in wires.items():
            if client not in self._service.lines:
                self._service.lines[client] = Line(client, self._outset.attempt)
                self._call(client, with_kept=False)
            self._service.lines[client].ask(op, wire)

    def pull(self, client: int) -> Iterator[Answer]:
        """See `Courier.pull`."""
        while True:
            message, words = self._heard(client)
            if words["type"] == "done":
                self.traffic.num_exchanges += 1
                return
            yield answer_of(message, words)

    def finish(self, clients: Sequence[int]) -> dict[int, Outcome]:
        """See `Courier.finish`."""
        self.push(END, dict.fromkeys(clients, EMPTY))
        outcomes = {}
        for client in clients:
            message, words = self._heard(client)
            blob = bytes(message.side["blob"].numpy().tobytes())
            outcomes[client] = Outcome(blob, words["peak_bytes"], words["held_bytes"])
            self.traffic.up_sent += int(words["sent_bytes"])
            self.traffic.down_received += words["received_bytes"]
            self._service.lines[client].close()
        return outcomes

    def _heard(self, client: int) -> tuple[Message, dict[str, Any]]:
        line = self._service.lines[client]
        while True:
            heard = line.heard(_LOOK_S)
            if heard is not None:
                return heard
            self._look()
            limit_s = self._silence_s if line.num_links else self._start_s
            if time.monotonic() - line.heard_s > limit_s:
                raise DeviceLost(client, f"no word for {limit_s:g} s")

    def _call(self, client: int, *, with_kept: bool) -> None:
        """Asks a device, by Flower, to open its stream."""
        outset, blob = self._outset, self._outset.kept.get(client, b"")
        words: dict[str, Any] = {
            "run": outset.run,
            "round": outset.round,
            "attempt": outset.attempt,
            "client": client,
            "positions": list(outset.positions),
            "kept": digest_of(blob),
            "threads": self._threads,
            "config": self._text,
            "address": self._address.where,
            "root": self._address.root,
            "token": self._service.token,
            "chunk_bytes": self._chunk_bytes,
            "silence_s": self._silence_s,
        }
        records = RecordDict()
        put_message(records, "ask", EMPTY, **words)
        if with_kept:
            records["kept"] = ConfigRecord({"blob": blob})
        node = self._roster.node_of.get(client)
        if node is None:
            raise DeviceLost(client, "it is not there any more")
        [pushed] = self._grid.push_messages([FlowerMessage(records, node, "train.round")])
        self._asked[pushed] = client
        self.traffic.down_sent += payload_bytes(records)

    def _look(self) -> None:
        """Whether Flower has something to say about a device."""
        if not self._asked or time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        for reply in self._grid.pull_messages(list(self._asked)):
            client = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if client is None:
                continue
            if reply.has_error():
                raise DeviceLost(client, f"Flower says: {reply.error.reason}")
            if reply.content["reply"]["status"] == "stale":
                self._call(client, with_kept=True)
