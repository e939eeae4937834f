"""Messages count what they carry."""

import pickle

import torch

from edgeai.fedsplit.protocol.message import KINDS, Message


def test_bytes_are_elements_times_item_size_per_kind() -> None:
    message = Message(
        activations={"z": torch.zeros(3, 5), "w": torch.zeros(2, dtype=torch.float16)},
        labels={"y": torch.zeros(3, dtype=torch.int64)},
        side={"z.index": torch.zeros(7, dtype=torch.uint8)},
    )
    counted = {kind: message.num_bytes(kind) for kind in KINDS}
    assert counted == {"activations": 64, "gradients": 0, "weights": 0, "labels": 24, "side": 7}


def test_options_are_neither_tensors_nor_charged() -> None:
    message = Message(options={"epoch": 3, "names": ["a"]})
    assert message.is_empty
    assert sum(message.num_bytes(kind) for kind in KINDS) == 0


def test_any_kind_makes_it_not_empty() -> None:
    for kind in KINDS:
        message = Message(**{kind: {"t": torch.ones(1)}})
        assert not message.is_empty
        assert list(message.tensors(kind)) == ["t"]


def test_survives_pickling_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(Message(gradients={"z": torch.ones(2)}, options={"step": 1})))
    assert torch.equal(copy.gradients["z"], torch.ones(2))
    assert copy.options == {"step": 1}
    assert copy.activations == {}
