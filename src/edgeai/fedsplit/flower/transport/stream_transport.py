"""Transport with one gRPC stream per device and round; one Flower message tells the device to open it."""

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
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes
from edgeai.fedsplit.flower.transport.device_transport import (
    DeviceLost,
    DeviceOutcome,
    DeviceTransport,
    RoundStart,
    Traffic,
)
from edgeai.fedsplit.flower.transport.stream_service import StreamService
from edgeai.fedsplit.flower.transport.stream_session import StreamSession, answer_of
from edgeai.fedsplit.flower.transport.wire_records import payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message

_LOOK_S = 0.5  # between two polls for Flower's errors while a device is silent


@dataclass(frozen=True)
class ServiceAddress:
    """Address of the stream service as devices see it."""

    where: str
    root: str = ""
    """PEM certificate of the trusted authority; empty for an unencrypted link."""


class StreamTransport(DeviceTransport):
    """Transport over gRPC streams.

    Args:
        grid: Flower's grid.
        nodes: Node ids by client.
        text: The run's config for devices, as `config_text` returns it.
        service: The gRPC service that accepts the links.
        address: Its address as devices see it.
        traffic: Byte counts, shared with the service.
        threads: torch threads of a device.
        chunk_bytes: Chunk size of uplink payloads.
        silence_s: Time without a message after which a device is lost.
        start_s: The same limit before a device's first message in a round.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: ClientNodes,
        text: str,
        service: StreamService,
        address: ServiceAddress,
        traffic: Traffic,
        *,
        threads: int,
        chunk_bytes: int,
        silence_s: float,
        start_s: float,
    ) -> None:
        self._grid, self._nodes, self._text, self._service = grid, nodes, text, service
        self._address, self._threads, self._chunk_bytes, self._silence_s = address, threads, chunk_bytes, silence_s
        self._start_s = start_s
        self._start = RoundStart("", 0, 0, (), {})
        self._asked: dict[str, int] = {}  # client by message id
        self._looked_s = 0.0
        self.traffic = traffic
        traffic.by = "stream"

    def away(self, clients: Sequence[int]) -> set[int]:
        """See `DeviceTransport.away`."""
        self._nodes.refresh()
        return {client for client in clients if client not in self._nodes.node_of}

    def begin(self, start: RoundStart) -> None:
        """See `DeviceTransport.begin`. Devices of the previous attempt are told that it is over."""
        for session in self._service.sessions.values():
            session.close()
        self._service.sessions.clear()
        self._asked.clear()
        self._start = start

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """See `DeviceTransport.push`."""
        for client, wire in wires.items():
            if client not in self._service.sessions:
                self._service.sessions[client] = StreamSession(client, self._start.attempt)
                self._call(client, with_kept=False)
            self._service.sessions[client].ask(op, wire)

    def pull(self, client: int) -> Iterator[Answer]:
        """See `DeviceTransport.pull`."""
        while True:
            message, words = self._receive(client)
            if words["type"] == "done":
                self.traffic.num_exchanges += 1
                return
            yield answer_of(message, words)

    def finish(self, clients: Sequence[int]) -> dict[int, DeviceOutcome]:
        """See `DeviceTransport.finish`."""
        self.push(END, dict.fromkeys(clients, EMPTY))
        outcomes = {}
        for client in clients:
            message, words = self._receive(client)
            blob = bytes(message.side["blob"].numpy().tobytes())
            outcomes[client] = DeviceOutcome(blob, words["peak_bytes"], words["held_bytes"])
            self.traffic.up_sent += int(words["sent_bytes"])
            self.traffic.down_received += words["received_bytes"]
            self._service.sessions[client].close()
        return outcomes

    def _receive(self, client: int) -> tuple[Message, dict[str, Any]]:
        session = self._service.sessions[client]
        while True:
            received = session.receive(_LOOK_S)
            if received is not None:
                return received
            self._look()
            limit_s = self._silence_s if session.num_links else self._start_s
            if time.monotonic() - session.last_message_s > limit_s:
                raise DeviceLost(client, f"no message for {limit_s:g} s")

    def _call(self, client: int, *, with_kept: bool) -> None:
        """Ask a device through Flower to open its stream."""
        start, blob = self._start, self._start.kept.get(client, b"")
        words: dict[str, Any] = {
            "run": start.run,
            "round": start.round,
            "attempt": start.attempt,
            "client": client,
            "positions": list(start.positions),
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
        node = self._nodes.node_of.get(client)
        if node is None:
            raise DeviceLost(client, "it is not connected any more")
        [pushed] = self._grid.push_messages([FlowerMessage(records, node, "train.round")])
        self._asked[pushed] = client
        self.traffic.down_sent += payload_bytes(records)

    def _look(self) -> None:
        """Poll Flower for errors of devices and for devices that lack their saved state."""
        if not self._asked or time.monotonic() - self._looked_s < _LOOK_S:
            return
        self._looked_s = time.monotonic()
        for reply in self._grid.pull_messages(list(self._asked)):
            client = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if client is None:
                continue
            if reply.has_error():
                raise DeviceLost(client, f"Flower reports: {reply.error.reason}")
            if reply.content["reply"]["status"] == "stale":
                self._call(client, with_kept=True)
