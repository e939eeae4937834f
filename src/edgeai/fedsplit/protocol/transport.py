"""Transport between a method and its devices. Backends implement it; it is all that methods know of a backend."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from edgeai.fedsplit.protocol.message import EMPTY, Message


@dataclass(frozen=True)
class Request:
    """A message for one device."""

    message: Message = EMPTY
    at_s: float = 0.0
    """Time at which the server sends it; for an empty message, time from which the device may continue."""
    from_peer: bool = False
    """The message comes directly from another device, whose link was charged and timed."""
    is_copy: bool = False
    """Copy of a broadcast whose bytes are charged to another device: it is timed here, but not charged."""


@dataclass(frozen=True)
class Reply:
    """A message from one device."""

    client: int
    message: Message
    at_s: float
    """Arrival time at the server."""
    client_s: float
    """Time at which the device finished it and can continue."""


class Transport(Protocol):
    """Requests to the devices of a round."""

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """Send the same operation to several devices.

        Args:
            op: Name of the operation: the client half's handler `on_<op>`.
            requests: Requests by client.

        Returns:
            Replies of each client, as they arrive, in the order of the requests.
        """


def arrivals(streams: Mapping[int, Iterator[Reply]]) -> Iterator[Reply]:
    """Yield the replies of several devices in order of arrival; ties are ordered by client."""
    waiting: list[tuple[float, int, Reply]] = []
    for client, stream in streams.items():
        _queue(waiting, client, stream)
    while waiting:
        _, client, reply = heapq.heappop(waiting)
        yield reply
        _queue(waiting, client, streams[client])


def _queue(waiting: list[tuple[float, int, Reply]], client: int, stream: Iterator[Reply]) -> None:
    reply = next(stream, None)
    if reply is not None:
        heapq.heappush(waiting, (reply.at_s, client, reply))
