"""Transport with one Flower message per exchange."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
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
from edgeai.fedsplit.flower.transport.packing import pack_message
from edgeai.fedsplit.flower.transport.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message


@dataclass(eq=False)
class _Exchanges:
    """Exchanges with one device in one attempt at a round."""

    attempt: int
    first: bytes
    """Digest of the first request."""
    number: int = 0
    """Number of the next exchange."""
    asked_s: float | None = None
    """Time of the pending request; None while there is none."""
    answer: RecordDict | None = None
    """Answer to the last request other than END."""
    lost: str | None = None
    """Reason why the device is lost; None if it is not."""
    outcome: DeviceOutcome | None = None


class MessageTransport(DeviceTransport):
    """Transport with one Flower message per exchange.

    Uses push_messages and pull_messages, which is faster than Flower's send_and_receive and accepts answers in any
    order.

    Args:
        grid: Flower's grid.
        nodes: Node ids by client.
        text: The run's config for devices, as `config_text` returns it.
        threads: torch threads of a device; 0 for as many as the server has.
        interval_s: Time between two polls for answers.
        silence_s: Time without an answer after which a device is lost.
        is_logged: Whether devices log a round's messages, so that another process can replay the round.
        is_single: Whether a device gets one request per round. It then logs nothing and returns its state with its
            answer.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: ClientNodes,
        text: str,
        *,
        threads: int,
        interval_s: float,
        silence_s: float,
        is_logged: bool,
        is_single: bool,
    ) -> None:
        self._grid, self._nodes, self._text = grid, nodes, text
        self._threads = threads or torch.get_num_threads()
        self._interval_s, self._silence_s = interval_s, silence_s
        self._is_logged, self._is_single = is_logged and not is_single, is_single
        self._start = RoundStart("", 0, 0, (), {})
        self._exchanges: dict[int, _Exchanges] = {}
        self._before: dict[int, _Exchanges] = {}  # of the previous attempt at this round
        self._asked: dict[str, tuple[int, str, Message, _Exchanges]] = {}  # by message id: client, op, wire
        self.traffic = Traffic(by="message")

    def away(self, clients: Sequence[int]) -> set[int]:
        """See `DeviceTransport.away`."""
        self._nodes.refresh()
        return {client for client in clients if client not in self._nodes.node_of}

    def begin(self, start: RoundStart) -> None:
        """See `DeviceTransport.begin`.

        With one request per device and round, a new attempt reuses the answers to equal requests of the previous one,
        pending answers included, so that no device trains twice.
        """
        is_again = (start.run, start.round) == (self._start.run, self._start.round) and self._is_single
        self._before, self._exchanges, self._start = self._exchanges if is_again else {}, {}, start
        if not is_again:
            self._asked.clear()  # answers still in flight are ignored

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """See `DeviceTransport.push`."""
        for client, wire in wires.items():
            if client not in self._exchanges:
                request = hashlib.blake2b(pack_message(wire, op=op)).digest()
                before = self._before.get(client)
                if before is not None and before.first == request:
                    self._exchanges[client] = before
                    continue
                self._exchanges[client] = _Exchanges(self._start.attempt, request)
            exchanges = self._exchanges[client]
            assert exchanges.asked_s is None, f"client {client} has not answered its last request"
            exchanges.outcome = None
            self._send(client, op, wire, exchanges, with_kept=False)

    def pull(self, client: int) -> Iterator[Answer]:
        """See `DeviceTransport.pull`."""
        exchanges = self._wait(client)
        records = exchanges.answer
        assert records is not None
        for number in range(records["reply"]["num_answers"]):
            wire, words = get_message(records, f"say{number}")
            yield Answer(None if words["none"] else wire, words["flops"])

    def finish(self, clients: Sequence[int]) -> dict[int, DeviceOutcome]:
        """See `DeviceTransport.finish`. Small states arrived with the answers."""
        missing = [client for client in clients if self._exchanges[client].outcome is None]
        self.push(END, dict.fromkeys(missing, EMPTY))
        outcomes = {}
        for client in clients:
            outcome = self._wait(client).outcome
            assert outcome is not None
            outcomes[client] = outcome
        return outcomes

    def _send(self, client: int, op: str, wire: Message, exchanges: _Exchanges, *, with_kept: bool) -> None:
        start, blob = self._start, self._start.kept.get(client, b"")
        words: dict[str, Any] = {
            "run": start.run,
            "round": start.round,
            "attempt": exchanges.attempt,
            "number": exchanges.number,
            "client": client,
            "op": op,
            "positions": list(start.positions),
            "kept": digest_of(blob),
            "log": self._is_logged,
            "single": self._is_single,
            "threads": self._threads,
            "config": self._text,
        }
        records = RecordDict()
        put_message(records, "ask", wire, **words)
        if with_kept:
            records["kept"] = ConfigRecord({"blob": blob})
        node = self._nodes.node_of.get(client)
        if node is None:
            raise DeviceLost(client, "it is not connected any more")
        [pushed] = self._grid.push_messages([FlowerMessage(records, node, "train.exchange")])
        self._asked[pushed] = (client, op, wire, exchanges)
        exchanges.asked_s = exchanges.asked_s or time.monotonic()
        self.traffic.down_sent += payload_bytes(records)

    def _wait(self, client: int) -> _Exchanges:
        """Wait until a client has answered; process the answers of other clients meanwhile."""
        exchanges = self._exchanges[client]
        while exchanges.asked_s is not None:
            is_news = self._look()
            if exchanges.lost is None and not is_news and time.monotonic() - exchanges.asked_s > self._silence_s:
                exchanges.lost = f"no message for {self._silence_s:g} s"
            if exchanges.lost is not None:
                raise DeviceLost(client, exchanges.lost)
            if exchanges.asked_s is not None:
                time.sleep(self._interval_s)
        return exchanges

    def _look(self) -> bool:
        """Process the messages that have arrived; return whether there were any. Losses are raised by `_wait`."""
        if not self._asked:
            return False
        found = list(self._grid.pull_messages(list(self._asked)))
        for reply in found:
            asked = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:  # otherwise it is a duplicate
                self._take(*asked, reply)
        return bool(found)

    def _take(self, client: int, op: str, wire: Message, exchanges: _Exchanges, reply: FlowerMessage) -> None:
        if exchanges not in (self._exchanges.get(client), self._before.get(client)):
            return  # an answer to an earlier round
        if reply.has_error():
            exchanges.lost = f"Flower reports: {reply.error.reason}"
            return
        records = reply.content
        head = records["reply"]
        if (head["attempt"], head["number"]) != (exchanges.attempt, exchanges.number):
            return
        if head["status"] == "stale":
            self._send(client, op, wire, exchanges, with_kept=True)
            return
        if head["status"] != "ok":
            exchanges.lost = "its process ended during the round"
            return
        exchanges.asked_s, exchanges.number = None, head["number"] + 1
        if op != END:
            exchanges.answer = records
        if "after" in records:
            exchanges.outcome = DeviceOutcome(records["after"]["blob"], head["peak_bytes"], head["held_bytes"])
        traffic = self.traffic
        traffic.num_exchanges += 1
        traffic.up_received += payload_bytes(records)
        traffic.up_sent += head["sent_bytes"]
        traffic.down_received += head["received_bytes"]
        traffic.replayed[head["pid"]] = head["replayed"]
