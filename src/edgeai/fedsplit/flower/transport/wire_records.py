"""Messages as Flower records: one ArrayRecord per kind of tensor, one ConfigRecord for the control words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.transport.packing import arrays_of
from edgeai.fedsplit.protocol.message import KINDS, Kind, Message


def put_message(records: RecordDict, name: str, message: Message, **words: Any) -> None:
    """Put a message into records.

    Args:
        records: Records that receive the message.
        name: Name of the message among the records.
        message: The message, in wire form.
        words: Plain values for the receiving program.
    """
    by_kind: dict[Kind, dict[str, Array]] = {kind: {} for kind in KINDS}
    for kind, key, array in arrays_of(message):
        by_kind[kind][key] = Array(array)
    for kind, arrays in by_kind.items():
        if arrays:
            records[f"{name}.{kind}"] = ArrayRecord(arrays)
    order = json.dumps([[kind, key] for kind, arrays in by_kind.items() for key in arrays])
    options = json.dumps(dict(message.options))
    records[f"{name}.words"] = ConfigRecord(
        {"order": order, "options": options, "words": json.dumps(words), "sum": _digest(by_kind, order, options)}
    )


def get_message(records: RecordDict, name: str) -> tuple[Message, dict[str, Any]]:
    """Return the message of a name and its control words.

    Raises:
        EdgeAIError: The checksum does not match.
    """
    words = records[f"{name}.words"]
    by_kind: dict[Kind, dict[str, Array]] = {kind: {} for kind in KINDS}
    for kind, key in json.loads(words["order"]):
        by_kind[kind][key] = records[f"{name}.{kind}"][key]
    if _digest(by_kind, words["order"], words["options"]) != words["sum"]:
        raise EdgeAIError(f'message "{name}" is corrupt: its checksum does not match')
    tensors = {
        kind: {key: torch.from_numpy(array.numpy().copy()) for key, array in arrays.items()}
        for kind, arrays in by_kind.items()
    }
    return Message(**tensors, options=json.loads(words["options"])), json.loads(words["words"])


def payload_bytes(records: RecordDict) -> int:
    """Return the bytes of arrays and control words, without Flower's own framing."""
    total = 0
    for record in records.values():
        for value in record.values():
            if isinstance(value, Array):
                total += len(value.data)
            else:
                total += len(value) if isinstance(value, str | bytes) else 8
    return total


def _digest(by_kind: dict[Kind, dict[str, Array]], order: str, options: str) -> str:
    digest = hashlib.blake2b(order.encode() + options.encode(), digest_size=16)
    for arrays in by_kind.values():
        for array in arrays.values():
            digest.update(array.data)
    return digest.hexdigest()
