"""Packed messages read back unchanged; corruption is detected."""

from __future__ import annotations

import pytest
import torch
from flwr.app import RecordDict

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.transport.packing import pack_message, unpack_message
from edgeai.fedsplit.flower.transport.wire_records import get_message, payload_bytes, put_message
from edgeai.fedsplit.protocol.message import KINDS, Message

MESSAGE = Message(
    activations={"z": torch.arange(6, dtype=torch.float32).view(2, 3).t(), "none": torch.empty(0, 4)},
    gradients={"half": torch.tensor([0.1], dtype=torch.float16)},
    weights={"b": torch.tensor(3), "a": torch.tensor([1.5, float("inf")], dtype=torch.float64)},
    labels={"y": torch.tensor([3, 1])},
    side={"code": torch.tensor([255, 0], dtype=torch.uint8), "mask": torch.tensor([True, False])},
    options={"loss": 0.1 + 0.2, "list": [1, 2.5], "none": [], "name": "ä", "flag": True},
)


def assert_same(found: Message) -> None:
    for kind in KINDS:
        assert list(found.tensors(kind)) == list(MESSAGE.tensors(kind))
        for name, tensor in MESSAGE.tensors(kind).items():
            assert found.tensors(kind)[name].dtype == tensor.dtype
            assert torch.equal(found.tensors(kind)[name], tensor)
    assert found.options == MESSAGE.options


def test_bytes_hold_all_of_a_message() -> None:
    found, words = unpack_message(pack_message(MESSAGE, op="step", number=3))
    assert_same(found)
    assert words == {"op": "step", "number": 3}


def test_records_hold_all_of_a_message() -> None:
    records = RecordDict()
    put_message(records, "ask", MESSAGE, op="step")
    found, words = get_message(records, "ask")
    assert_same(found)
    assert words == {"op": "step"}


def test_records_keep_kinds_apart() -> None:
    records = RecordDict()
    put_message(records, "ask", MESSAGE)
    assert set(records["ask.labels"]) == {"y"}
    assert payload_bytes(records) > sum(map(MESSAGE.num_bytes, KINDS))


@pytest.mark.parametrize("place", [0, 20, -1])
def test_damaged_bytes_do_not_pass(place: int) -> None:
    packed = bytearray(pack_message(MESSAGE))
    packed[place] ^= 1
    with pytest.raises(EdgeAIError) as caught:
        unpack_message(bytes(packed))
    assert str(caught.value) == "a message is corrupt: its checksum does not match"


def test_damaged_records_do_not_pass() -> None:
    records, other = RecordDict(), RecordDict()
    put_message(records, "ask", MESSAGE)
    put_message(other, "ask", Message(labels={"y": torch.tensor([3, 2])}))
    records["ask.labels"] = other["ask.labels"]
    with pytest.raises(EdgeAIError) as caught:
        get_message(records, "ask")
    assert str(caught.value) == 'message "ask" is corrupt: its checksum does not match'
