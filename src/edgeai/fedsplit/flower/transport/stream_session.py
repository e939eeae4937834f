"""The server side of one device's stream in one attempt at a round.

A session survives broken links: both sides keep track of what the other has received, so a new link continues where
the old one broke.

    device: hello {client, attempt, token, num_seen}      num_seen: requests received completely
    server: welcome {number, num_says}                    number of the last request, answers received to it
    server: ask {number, op} + message
    device: say {number, index, flops, none} + message    one per answer
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


class StreamSession:
    """Session of one device.

    Args:
        client: Client number of the device.
        attempt: Attempt number.
    """

    def __init__(self, client: int, attempt: int) -> None:
        self.client, self.attempt = client, attempt
        self.last_message_s = time.monotonic()
        """Time of the device's last message."""
        self.num_links = 0
        """Number of links so far; more than one if a link broke."""
        self._lock = threading.Lock()
        self._out: queue.Queue[bytes | None] = queue.Queue()
        self._inbox: queue.Queue[tuple[Message, dict[str, Any]]] = queue.Queue()
        self._number, self._num_says, self._is_done, self._ask = -1, 0, True, b""
        self._is_gone = False

    def ask(self, op: str, wire: Message) -> None:
        """Send a request, or keep it until there is a link."""
        with self._lock:
            assert self._is_done, f"client {self.client} has not answered its last request"
            self._number, self._num_says, self._is_done = self._number + 1, 0, False
            self._ask = pack_message(wire, type="ask", number=self._number, op=op)
            self.last_message_s = time.monotonic()
            self._out.put(self._ask)

    def close(self) -> None:
        """End the session: the attempt is over."""
        with self._lock:
            self._is_gone = True
            self._out.put(pack_message(EMPTY, type="gone"))
            self._out.put(None)

    def attach(self, num_seen: int) -> queue.Queue[bytes | None]:
        """Switch to a new link; return its queue of outgoing payloads, which None ends."""
        with self._lock:
            self._out.put(None)  # ends the old link
            self._out = queue.Queue()
            self.num_links += 1
            self.last_message_s = time.monotonic()
            self._out.put(pack_message(EMPTY, type="welcome", number=self._number, num_says=self._num_says))
            if not self._is_done and num_seen <= self._number:
                self._out.put(self._ask)
            if self._is_gone:
                self._out.put(pack_message(EMPTY, type="gone"))
                self._out.put(None)
            return self._out

    def take(self, payload: bytes) -> None:
        """Process a payload from the device. Duplicates and answers to earlier requests are ignored."""
        message, words = unpack_message(payload)
        with self._lock:
            self.last_message_s = time.monotonic()
            if words["number"] != self._number or self._is_done:
                return
            if words["type"] == "say":
                if words["index"] != self._num_says:
                    return
                self._num_says += 1
            elif words["num_says"] != self._num_says:
                return  # an answer is missing; the device sends it again
            else:
                self._is_done = True
        self._inbox.put((message, words))

    def receive(self, timeout_s: float) -> tuple[Message, dict[str, Any]] | None:
        """Return the device's next message and its control words, or None after the timeout."""
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None


def answer_of(message: Message, words: dict[str, Any]) -> Answer:
    """Return the answer in a `say` message."""
    return Answer(None if words["none"] else message, words["flops"])


def drain(out: queue.Queue[bytes | None]) -> Iterator[bytes]:
    """Yield outgoing payloads until the link ends."""
    while (payload := out.get()) is not None:
        yield payload
