"""The device side of a stream: answer the server's requests until the round ends, reconnecting when a link breaks."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import torch

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.device import DeviceRound
from edgeai.fedsplit.flower.transport.chunks import Damaged, Joiner, chunks, framed_bytes
from edgeai.fedsplit.flower.transport.packing import pack_message, unpack_message
from edgeai.fedsplit.flower.transport.stream_service import OPTIONS, PATH
from edgeai.fedsplit.protocol.message import EMPTY, Message

_OVER = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAUTHENTICATED)
_PAUSE_S = 0.2  # between two connection attempts


@dataclass(frozen=True)
class StreamEndpoint:
    """Server address and credentials of a device's stream."""

    address: str
    token: str
    client: int
    attempt: int
    chunk_bytes: int
    silence_s: float
    """Time without a link after which the device gives up."""
    root: str = ""
    """PEM certificate of the trusted authority; empty for an unencrypted link."""


class StreamClient:
    """Stream of one device in one attempt at a round.

    Args:
        endpoint: Server address and credentials.
        live: The device's round.
        end: The op that ends the round.
        received_bytes: Bytes received through Flower before the stream.
    """

    def __init__(self, endpoint: StreamEndpoint, live: DeviceRound, end: str, received_bytes: int = 0) -> None:
        self._endpoint, self._live, self._end = endpoint, live, end
        self._number = -1  # number of the last request
        self._said: list[bytes] = []  # answers to it, `done` included
        self._out: queue.Queue[bytes | None] = queue.Queue()
        self.blob: bytes | None = None
        """Saved state of the device once the round has ended."""
        self.sent_bytes = 0
        self.received_bytes = received_bytes
        self.num_links = 0
        self._has_received = False

    def serve(self) -> bool:
        """Answer requests until the round ends.

        Returns:
            True if the round ended, False if the server gave up this attempt.

        Raises:
            EdgeAIError: There was no link for too long.
        """
        last_s = time.monotonic()
        while True:
            try:
                with self._channel() as channel:
                    ended = self._serve_link(channel)
                if ended is not None:
                    return ended
                last_s = time.monotonic()
            except (grpc.RpcError, Damaged) as error:
                if isinstance(error, grpc.RpcError) and error.code() in _OVER:
                    return self.blob is not None
                if self._has_received:
                    last_s = time.monotonic()
                if time.monotonic() - last_s > self._endpoint.silence_s:
                    raise EdgeAIError(
                        f"no link to {self._endpoint.address} for {self._endpoint.silence_s:g} s"
                    ) from None
                time.sleep(_PAUSE_S)

    def _serve_link(self, channel: grpc.Channel) -> bool | None:
        """Serve one link; return None if it ends before the round does."""
        endpoint = self._endpoint
        self._out, self._has_received = queue.Queue(), False
        hello = {"client": endpoint.client, "attempt": endpoint.attempt, "token": endpoint.token}
        self._out.put(pack_message(EMPTY, type="hello", num_seen=self._number + 1, **hello))
        self.num_links += 1
        joiner = Joiner()
        for chunk in channel.stream_stream(PATH)(self._outgoing(self._out)):
            self.received_bytes += len(chunk)
            payload = joiner.add(chunk)
            if payload is None:
                continue
            message, words = unpack_message(payload)
            self._has_received = True
            if words["type"] == "gone":
                self._out.put(None)
                return self.blob is not None
            if words["type"] == "welcome":
                if words["number"] == self._number:
                    for said in self._said[words["num_says"] :]:
                        self._out.put(said)
            elif words["number"] == self._number + 1:
                self._answer(message, words)
        return None

    def _answer(self, wire: Message, words: dict[str, Any]) -> None:
        self._number, self._said = words["number"], []
        index = 0
        if words["op"] != self._end:
            for answer in self._live.exchange(words["op"], wire):
                said = {"number": self._number, "index": index, "flops": answer.flops, "none": answer.wire is None}
                self._say(pack_message(answer.wire or EMPTY, type="say", **said))
                index += 1
        last = EMPTY
        if words["op"] == self._end:
            self.blob = self._live.blob()
            last = Message(side={"blob": torch.from_numpy(np.frombuffer(self.blob, np.uint8).copy())})
        peak_bytes, held_bytes = self._live.memory_bytes
        done: dict[str, Any] = {
            "number": self._number,
            "num_says": index,
            "peak_bytes": peak_bytes,
            "held_bytes": held_bytes,
        }
        done |= {"received_bytes": self.received_bytes, "type": "done"}
        own_bytes = framed_bytes(pack_message(last, sent_bytes=_digits(0), **done), self._endpoint.chunk_bytes)
        self._say(pack_message(last, sent_bytes=_digits(self.sent_bytes + own_bytes), **done))

    def _say(self, payload: bytes) -> None:
        self._said.append(payload)
        self._out.put(payload)

    def _outgoing(self, out: queue.Queue[bytes | None]) -> Iterator[bytes]:
        while (payload := out.get()) is not None:
            for chunk in chunks(payload, self._endpoint.chunk_bytes):
                self.sent_bytes += len(chunk)
                yield chunk

    def _channel(self) -> grpc.Channel:
        endpoint = self._endpoint
        if not endpoint.root:
            return grpc.insecure_channel(endpoint.address, options=OPTIONS)
        return grpc.secure_channel(
            endpoint.address, grpc.ssl_channel_credentials(endpoint.root.encode()), options=OPTIONS
        )


def _digits(number: int) -> str:
    """Return a number with a fixed number of digits, so that a message can state its own length."""
    return f"{number:020d}"
