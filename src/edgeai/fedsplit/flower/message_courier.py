"""Every exchange as a Flower message of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from flwr.app import ConfigRecord, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.serverapp import Grid

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.devices import Answer
from edgeai.fedsplit.flower.client_program import END
from edgeai.fedsplit.flower.courier import Courier, DeviceLost, Outcome, Outset, Traffic
from edgeai.fedsplit.flower.device import digest_of
from edgeai.fedsplit.flower.roster import Roster
from edgeai.fedsplit.flower.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.message import EMPTY, Message


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
    ) -> None:
        self._grid, self._roster, self._text = grid, roster, text
        self._threads = threads or torch.get_num_threads()
        self._interval_s, self._silence_s, self._is_logged = interval_s, silence_s, is_logged
        self._outset = Outset("", 0, 0, (), {})
        self._number: dict[int, int] = {}  # of the next exchange, by client
        self._asked: dict[str, tuple[int, str, Message]] = {}  # by message id: client, op, wire
        self._pushed_s: dict[int, float] = {}
        self._arrived: dict[int, RecordDict] = {}
        self._outcomes: dict[int, Outcome] = {}
        self.traffic = Traffic(by="message")

    def away(self, clients: Sequence[int]) -> set[int]:
        """See `Courier.away`."""
        self._roster.refresh()
        return {client for client in clients if client not in self._roster.node_of}

    def begin(self, outset: Outset) -> None:
        """See `Courier.begin`. What is still under way belongs to the past: nobody looks at it any more."""
        self._outset = outset
        for table in (self._number, self._asked, self._pushed_s, self._arrived, self._outcomes):
            table.clear()

    def push(self, op: str, wires: Mapping[int, Message]) -> None:
        """See `Courier.push`."""
        for client, wire in wires.items():
            assert client not in self._pushed_s, f"client {client} has not answered its last request"
            self._send(client, op, wire, with_kept=False)

    def pull(self, client: int) -> Iterator[Answer]:
        """See `Courier.pull`."""
        for number in range(self._reply(client)["reply"]["num_answers"]):
            wire, words = get_message(self._arrived[client], f"say{number}")
            yield Answer(None if words["none"] else wire, words["flops"])
        del self._arrived[client]

    def finish(self, clients: Sequence[int]) -> dict[int, Outcome]:
        """See `Courier.finish`. Small blobs are here already."""
        missing = [client for client in clients if client not in self._outcomes]
        self.push(END, dict.fromkeys(missing, EMPTY))
        for client in missing:
            for _ in self.pull(client):
                pass
        return {client: self._outcomes[client] for client in clients}

    def _send(self, client: int, op: str, wire: Message, *, with_kept: bool) -> None:
        outset, blob = self._outset, self._outset.kept.get(client, b"")
        words: dict[str, Any] = {
            "run": outset.run,
            "round": outset.round,
            "attempt": outset.attempt,
            "number": self._number.get(client, 0),
            "client": client,
            "op": op,
            "positions": list(outset.positions),
            "kept": digest_of(blob),
            "log": self._is_logged,
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
        self._asked[pushed] = (client, op, wire)
        self._pushed_s.setdefault(client, time.monotonic())
        self.traffic.down_sent += payload_bytes(records)

    def _reply(self, client: int) -> RecordDict:
        """Waits for a client's answer; takes in those of others on the way."""
        while client not in self._arrived:
            if client not in self._pushed_s:
                raise AssertionError(f"client {client} was not asked anything")
            if not self._look() and time.monotonic() - self._pushed_s[client] > self._silence_s:
                raise DeviceLost(client, f"no word for {self._silence_s:g} s")
            if client not in self._arrived:
                time.sleep(self._interval_s)
        return self._arrived[client]

    def _look(self) -> bool:
        """Takes in what has arrived; returns whether anything has."""
        if not self._asked:
            return False
        found = list(self._grid.pull_messages(list(self._asked)))
        for reply in found:
            asked = self._asked.pop(reply.metadata.reply_to_message_id, None)
            if asked is not None:  # otherwise it is a second copy
                self._take(*asked, reply)
        return bool(found)

    def _take(self, client: int, op: str, wire: Message, reply: FlowerMessage) -> None:
        if reply.has_error():
            raise DeviceLost(client, f"Flower says: {reply.error.reason}")
        records = reply.content
        head = records["reply"]
        outset = self._outset
        if (head["attempt"], head["number"]) != (outset.attempt, self._number.get(client, 0)):
            return  # of another time
        if head["status"] == "stale":
            self._send(client, op, wire, with_kept=True)
            return
        if head["status"] != "ok":
            raise DeviceLost(client, "its process ended in the middle of the round")
        del self._pushed_s[client]
        self._number[client] = head["number"] + 1
        self._arrived[client] = records
        if "after" in records:
            self._outcomes[client] = Outcome(records["after"]["blob"], head["peak_bytes"], head["held_bytes"])
        else:
            self._outcomes.pop(client, None)
        traffic = self.traffic
        traffic.num_exchanges += 1
        traffic.up_received += payload_bytes(records)
        traffic.up_sent += head["sent_bytes"]
        traffic.down_received += head["received_bytes"]
        traffic.replayed[head["pid"]] = head["replayed"]


def ask_error(text: str) -> EdgeAIError:
    """Where Flower itself does not do what it should."""
    return EdgeAIError(f"Flower: {text}", hint="see the logs in the home folder of `edgeai fedsplit up`")
