"""Messages as bytes: checksum, JSON header, then the tensors in order."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeai.fedsplit.flower.transport.chunks import Damaged
from edgeai.fedsplit.protocol.message import KINDS, Kind, Message

_DIGEST_BYTES = 16
_LENGTH = struct.Struct("<I")


def pack_message(message: Message, **words: Any) -> bytes:
    """Return a message and its control words as bytes.

    Args:
        message: The message, in wire form.
        words: Plain values for the receiving program.
    """
    listed, parts = [], []
    for kind, name, array in arrays_of(message):
        listed.append([kind, name, str(array.dtype), list(array.shape)])
        parts.append(array.tobytes())
    head = json.dumps({"tensors": listed, "options": dict(message.options), "words": words}).encode()
    body = b"".join([_LENGTH.pack(len(head)), head, *parts])
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def unpack_message(packed: bytes) -> tuple[Message, dict[str, Any]]:
    """Return the message and its control words.

    Raises:
        Damaged: The checksum does not match.
    """
    digest, body = packed[:_DIGEST_BYTES], memoryview(packed)[_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise Damaged("a message is corrupt: its checksum does not match", hint="see the link's logs")
    [length] = _LENGTH.unpack_from(body)
    start = _LENGTH.size + length
    head = json.loads(bytes(body[_LENGTH.size : start]))
    tensors: dict[Kind, dict[str, Tensor]] = {kind: {} for kind in KINDS}
    for kind, name, dtype, shape in head["tensors"]:
        array = np.frombuffer(body, np.dtype(dtype), count=int(np.prod(shape, dtype=np.int64)), offset=start)
        start += array.nbytes
        tensors[kind][name] = torch.from_numpy(array.reshape(shape).copy())
    return Message(**tensors, options=head["options"]), head["words"]


def arrays_of(message: Message) -> Iterator[tuple[Kind, str, np.ndarray]]:
    """Yield all tensors of a message as (kind, name, array)."""
    for kind in KINDS:
        for name, tensor in message.tensors(kind).items():
            yield kind, name, tensor.detach().cpu().numpy()


def moved(message: Message, device: str) -> Message:
    """Return the message with its tensors on a torch device."""
    if device == "cpu":
        return message
    there = {kind: {name: tensor.to(device) for name, tensor in message.tensors(kind).items()} for kind in KINDS}
    return Message(**there, options=message.options)
