"""What a method needs of the way to its devices. A backend implements it; methods know no other side of it."""

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
    """When the server hands it over, or, for an empty one, when the device may go on by itself."""
    from_peer: bool = False
    """It comes straight from another device, where it was charged and timed already."""
    is_copy: bool = False
    """The same broadcast as one to another device, where its bytes were charged: it takes its time here, no more."""


@dataclass(frozen=True)
class Reply:
    """A message from one device."""

    client: int
    message: Message
    at_s: float
    """When it has arrived at the server."""
    client_s: float
    """When the device had it ready: it can go on from then."""


class Transport(Protocol):
    """Reaches the devices that take part in a round."""

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """Asks several devices for the same thing, and gives their answers as they come.

        Args:
            op: What to do: the device's `on_<op>`.
            requests: By client.

        Returns:
            By client, in the order of the requests.
        """


def arrivals(streams: Mapping[int, Iterator[Reply]]) -> Iterator[Reply]:
    """Merges the answers of several devices by their time of arrival; ties go by client."""
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
