"""Bytes of any length as chunks on a stream, each with its place and its checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from edgeai.core.errors import EdgeAIError

_HEAD = struct.Struct("<QQI")  # bytes in all, bytes before this chunk, CRC-32 of this chunk


def chunks(payload: bytes, size: int) -> Iterator[bytes]:
    """Cuts a payload.

    Args:
        payload: Not empty.
        size: Bytes of each chunk, head left out; the last may be shorter.
    """
    for start in range(0, len(payload), size):
        part = payload[start : start + size]
        yield _HEAD.pack(len(payload), start, zlib.crc32(part)) + part


def framed_bytes(payload: bytes, size: int) -> int:
    """Of all chunks of a payload."""
    return len(payload) + _HEAD.size * -(-len(payload) // size)


class Damaged(EdgeAIError):
    """What came is not what was sent."""


class Joiner:
    """Puts chunks of one stream together again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def add(self, chunk: bytes) -> bytes | None:
        """Takes the next chunk; returns the payload with its last one.

        Raises:
            Damaged: The chunk is damaged, or not the next one.
        """
        if len(chunk) < _HEAD.size:
            raise Damaged("a chunk of a stream is too short")
        total, start, checksum = _HEAD.unpack_from(chunk)
        part = chunk[_HEAD.size :]
        if zlib.crc32(part) != checksum:
            raise Damaged("a chunk of a stream was damaged on its way: its checksum does not fit")
        if start != self._num_bytes or start + len(part) > total:
            raise Damaged(f"a chunk of a stream is out of place: it begins at {start}, not at {self._num_bytes}")
        self._parts.append(part)
        self._num_bytes += len(part)
        if self._num_bytes < total:
            return None
        payload = b"".join(self._parts)
        self._parts, self._num_bytes = [], 0
        return payload
