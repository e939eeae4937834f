"""Every exchange as a Flower message of its own."""

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
from edgeai.fedsplit.flower.transport.courier import Courier, DeviceLost, Outcome, Outset, Traffic
from edgeai.fedsplit.flower.transport.packing import pack_message
from edgeai.fedsplit.flower.transport.roster import Roster
from edgeai.fedsplit.flower.transport.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message


@dataclass(eq=False)
class _Talk:
    """With one device, in one attempt at a round."""

    attempt: int
    first: bytes
    """Names the request that it began with."""
    number: int = 0
    """Of the next exchange."""
    asked_s: float | None = None
    """When; None while no answer is due."""
    answer: RecordDict | None = None
    """To the last request but END."""
    lost: str | None = None
    """Why the device is lost, if it is."""
    outcome: Outcome | None = None


class MessageCourier(Courier):
    """Pushes and pulls by itself, which is faster than Flower's send_and_receive, and lets answers come in any order.

    Args:
        grid: Flower's.
        roster: Which node is which client.
        text: The run's config for devices.
        threads: Of torch on devices.
        interval_s: Between two looks for answers.
        silence_s: After which a device is lost.
        is_logged: Devices write down a round's messages, to play it again in another process.
        is_single: Devices are asked once a round: no request follows, nothing is written down, and what a device keeps
            comes with its answer.
    """

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        text: str,
        *,
        threads: int,
        interval_s: float,
        silence_s: float,
        is_logged: bool,
        is_single: bool,
    ) -> None:
        self._grid, self._roster, self._text = grid, roster, text
        self._threads = threads or torch.get_num_threads()
        self._interval_s, self._silence_s = interval_s, silence_s
        self._is_logged, self._is_single = is_logged and not is_single, is_single
        self._outset = Outset("", 0, 0, (), {})
        self._talks: dict[int, _Talk] = {}
        self._before: dict[int, _Talk] = {}  # of the attempt before at this round
        self._asked: dict[str, tuple[int, str, Message, _Talk]] = {}  # by message id: client, op, wire
        self.traffic = Traffic(by="message")

    def away(self, clients: Sequence[int]) -> set[int]:
        """See `Courier.away`."""
        self._roster.refresh()
        return {client for client in clients if client not in self._roster.node_of}

    def begin(self, outset: Outset) -> None:
        """See `Courier.begin`. Where devices are asked once a round, the next attempt at it takes the answers to the
        same request, those to come included: the round ends with the rest, and nobody trains twice.
        """
        is_again = (outset.run, outset.round) == (self._outset.run, self._outset.round) and self._is_single
        self._before, self._talks, self._outset = self._talks if is_again else {}, {}, outset
        if not is_again:
            self._asked.clear()  # nobody looks any more at what is still under way

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """See `Courier.push`."""
        for client, wire in wires.items():
            if client not in self._talks:
                request = hashlib.blake2b(pack_message(wire, op=op)).digest()
                before = self._before.get(client)
                if before is not None and before.first == request:
                    self._talks[client] = before
                    continue
                self._talks[client] = _Talk(self._outset.attempt, request)
            talk = self._talks[client]
            assert talk.asked_s is None, f"client {client} has not answered its last request"
            talk.outcome = None
            self._send(client, op, wire, talk, with_kept=False)

    def pull(self, client: int) -> Iterator[Answer]:
        """See `Courier.pull`."""
        talk = self._wait(client)
        records = talk.answer
        assert records is not None
        for number in range(records["reply"]["num_answers"]):
            wire, words = get_message(records, f"say{number}")
            yield Answer(None if words["none"] else wire, words["flops"])

    def finish(self, clients: Sequence[int]) -> dict[int, Outcome]:
        """See `Courier.finish`. Small blobs are here already."""
        missing = [client for client in clients if self._talks[client].outcome is None]
        self.push(END, dict.fromkeys(missing, EMPTY))
        outcomes = {}
        for client in clients:
            outcome = self._wait(client).outcome
            assert outcome is not None
            outcomes[client] = outcome
        return outcomes

    def _send(self, client: int, op: str, wire: Message, talk: _Talk, *, with_kept: bool) -> None:
        outset, blob = self._outset, self._outset.kept.get(client, b"")
        words: dict[str, Any] = {
            "run": outset.run,
            "round": outset.round,
            "attempt": talk.attempt,
            "number": talk.number,
            "client": client,
            "op": op,
            "positions": list(outset.positions),
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
        node = self._roster.node_of.get(client)
        if node is None:
            raise DeviceLost(client, "it is not there any more")
        [pushed] = self._grid.push_messages([FlowerMessage(records, node, "train.exchange")])
        self._asked[pushed] = (client, op, wire, talk)
        talk.asked_s = talk.asked_s or time.monotonic()
        self.traffic.down_sent += payload_bytes(records)

    def _wait(self, client: int) -> _Talk:
        """Until a client has answered; takes in the answers of others on the way."""
        talk = self._talks[client]
        while talk.asked_s is not None:
            is_news = self._look()
            if talk.lost is None and not is_news and time.monotonic() - talk.asked_s > self._silence_s:
                talk.lost = f"no word for {self._silence_s:g} s"
            if talk.lost is not None:
                raise DeviceLost(client, talk.lost)
            if talk.asked_s is not None:
                time.sleep(self._interval_s)
        return talk

    def _look(self) -> bool:
        """Takes in what has arrived; returns whether anything has. Who is lost is noticed when it is waited for."""
        if not self._asked:
            return False
        found = list(self._grid.pull_messages(list(self._asked)))
        for reply in found:
            asked = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:  # otherwise it is a second copy
                self._take(*asked, reply)
        return bool(found)

    def _take(self, client: int, op: str, wire: Message, talk: _Talk, reply: FlowerMessage) -> None:
        if talk not in (self._talks.get(client), self._before.get(client)):
            return  # of another time
        if reply.has_error():
            talk.lost = f"Flower says: {reply.error.reason}"
            return
        records = reply.content
        head = records["reply"]
        if (head["attempt"], head["number"]) != (talk.attempt, talk.number):
            return
        if head["status"] == "stale":
            self._send(client, op, wire, talk, with_kept=True)
            return
        if head["status"] != "ok":
            talk.lost = "its process ended in the middle of the round"
            return
        talk.asked_s, talk.number = None, head["number"] + 1
        if op != END:
            talk.answer = records
        if "after" in records:
            talk.outcome = Outcome(records["after"]["blob"], head["peak_bytes"], head["held_bytes"])
        traffic = self.traffic
        traffic.num_exchanges += 1
        traffic.up_received += payload_bytes(records)
        traffic.up_sent += head["sent_bytes"]
        traffic.down_received += head["received_bytes"]
        traffic.replayed[head["pid"]] = head["replayed"]
