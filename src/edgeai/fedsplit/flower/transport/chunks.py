"""Split a payload into chunks with offset and checksum, and join them again."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from edgeai.core.errors import EdgeAIError

_HEAD = struct.Struct("<QQI")  # bytes in all, bytes before this chunk, CRC-32 of this chunk


def chunks(payload: bytes, size: int) -> Iterator[bytes]:
    """Yield the chunks of a payload.

    Args:
        payload: At least one byte.
        size: Payload bytes of each chunk; the last chunk may be shorter.
    """
    for start in range(0, len(payload), size):
        part = payload[start : start + size]
        yield _HEAD.pack(len(payload), start, zlib.crc32(part)) + part


def framed_bytes(payload: bytes, size: int) -> int:
    """Return the size of all chunks of a payload, headers included."""
    return len(payload) + _HEAD.size * -(-len(payload) // size)


class Damaged(EdgeAIError):
    """Received bytes differ from what was sent."""


class Joiner:
    """Join the chunks of one stream into payloads."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def add(self, chunk: bytes) -> bytes | None:
        """Add the next chunk; return the payload when the chunk completes it, else None.

        Raises:
            Damaged: The chunk is corrupt or out of order.
        """
        if len(chunk) < _HEAD.size:
            raise Damaged("a chunk of a stream is too short")
        total, start, checksum = _HEAD.unpack_from(chunk)
        part = chunk[_HEAD.size :]
        if zlib.crc32(part) != checksum:
            raise Damaged("a chunk of a stream is corrupt: its checksum does not match")
        if start != self._num_bytes or start + len(part) > total:
            raise Damaged(f"a chunk of a stream is out of order: it starts at byte {start}, expected {self._num_bytes}")
        self._parts.append(part)
        self._num_bytes += len(part)
        if self._num_bytes < total:
            return None
        payload = b"".join(self._parts)
        self._parts, self._num_bytes = [], 0
        return payload
