"""The server's side of one device's stream in one attempt at a round. It outlives links: a new one goes on where the
old one broke, because each side knows what the other has.

    device: hello {client, attempt, token, num_seen}      num_seen: requests that it has in whole
    server: welcome {number, num_says}                    of the last request: its number, answers that have arrived
    server: ask {number, op} + message
    device: say {number, index, flops, none} + message    as often as it has something to say
    device: done {number, num_says, peak, held} + blob    blob: only after the request that ends the round
    server: gone                                          the attempt is over
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from edgeai.fedsplit.flower.transport.packing import pack_message, unpack_message
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import EMPTY, Message


class Line:
    """One device's.

    Args:
        client: Whose.
        attempt: At a round.
    """

    def __init__(self, client: int, attempt: int) -> None:
        self.client, self.attempt = client, attempt
        self.heard_s = time.monotonic()
        """When the device was last heard."""
        self.num_links = 0
        """Links so far; more than one where one broke."""
        self._lock = threading.Lock()
        self._out: queue.Queue[bytes | None] = queue.Queue()
        self._heard: queue.Queue[tuple[Message, dict[str, Any]]] = queue.Queue()
        self._number, self._num_says, self._is_done, self._ask = -1, 0, True, b""
        self._is_gone = False

    def ask(self, op: str, wire: Message) -> None:
        """Sends a request, or keeps it until there is a link."""
        with self._lock:
            assert self._is_done, f"client {self.client} has not answered its last request"
            self._number, self._num_says, self._is_done = self._number + 1, 0, False
            self._ask = pack_message(wire, type="ask", number=self._number, op=op)
            self.heard_s = time.monotonic()
            self._out.put(self._ask)

    def close(self) -> None:
        """The attempt is over."""
        with self._lock:
            self._is_gone = True
            self._out.put(pack_message(EMPTY, type="gone"))
            self._out.put(None)

    def attach(self, num_seen: int) -> queue.Queue[bytes | None]:
        """A new link is there; returns what goes out by it, None at its end."""
        with self._lock:
            self._out.put(None)  # ends the old link
            self._out = queue.Queue()
            self.num_links += 1
            self.heard_s = time.monotonic()
            self._out.put(pack_message(EMPTY, type="welcome", number=self._number, num_says=self._num_says))
            if not self._is_done and num_seen <= self._number:
                self._out.put(self._ask)
            if self._is_gone:
                self._out.put(pack_message(EMPTY, type="gone"))
                self._out.put(None)
            return self._out

    def take(self, payload: bytes) -> None:
        """Takes in what the device says. What came already, or answers an earlier request, is passed over."""
        message, words = unpack_message(payload)
        with self._lock:
            self.heard_s = time.monotonic()
            if words["number"] != self._number or self._is_done:
                return
            if words["type"] == "say":
                if words["index"] != self._num_says:
                    return
                self._num_says += 1
            elif words["num_says"] != self._num_says:
                return  # an answer is missing, and will come again
            else:
                self._is_done = True
        self._heard.put((message, words))

    def heard(self, timeout_s: float) -> tuple[Message, dict[str, Any]] | None:
        """The next thing that the device said; None if there is nothing for so long."""
        try:
            return self._heard.get(timeout=timeout_s)
        except queue.Empty:
            return None


def answer_of(message: Message, words: dict[str, Any]) -> Answer:
    """What a `say` says."""
    return Answer(None if words["none"] else message, words["flops"])


def drain(out: queue.Queue[bytes | None]) -> Iterator[bytes]:
    """Payloads until the link's end."""
    while (payload := out.get()) is not None:
        yield payload
