"""Both ends of a link: identity, restriction, correction, error feedback, and resuming."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.codec import (
    CodecConfig,
    FedliteConfig,
    Fp16Config,
    NoCodec,
    RandtopkConfig,
    TopkConfig,
    UniformConfig,
)
from edgeai.fedsplit.protocol.channel import ChannelEnd, build_ends
from edgeai.fedsplit.protocol.codec.sizes import cut_bytes
from edgeai.fedsplit.protocol.message import KINDS, Message


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _cross(sender: ChannelEnd, receiver: ChannelEnd, message: Message) -> Message:
    """Packs, sends to another process, unpacks."""
    return receiver.unpack(pickle.loads(pickle.dumps(sender.pack(message))))


CONFIGS = [
    CodecConfig(up=Fp16Config(), down=Fp16Config()),
    CodecConfig(up=UniformConfig(bits=3), down=UniformConfig(bits=5, per="channel")),
    CodecConfig(up=TopkConfig(k=5), down=UniformConfig(bits=7), error_feedback=True),
    CodecConfig(up=RandtopkConfig(k=5, alpha=0.4), down=Fp16Config()),
    CodecConfig(up=FedliteConfig(num_subvectors=6, centroids=4), down=TopkConfig(k=4), error_feedback=True),
]


def test_codec_none_is_the_message_itself() -> None:
    message = Message(activations={"z": _randn(3, 4)}, gradients={"z": _randn(3, 4)})
    for end in build_ends(CodecConfig(), 0, 0):
        assert end.pack(message) is message
        assert end.unpack(message) is message


def test_what_has_nothing_to_pack_is_the_message_itself() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=2)), 0, 0)
    message = Message(weights={"w": _randn(3, 4)}, labels={"y": torch.zeros(3)}, side={"s": _randn(2, 2)})
    assert client.pack(message) is message
    assert server.unpack(message) is message


def test_only_float_tensors_of_two_dimensions_are_packed() -> None:
    client, server = build_ends(CodecConfig(up=UniformConfig(bits=1)), 0, 0)
    passing = {"flat": _randn(4), "whole": torch.arange(6).view(2, 3), "none": torch.zeros(0, 3)}
    message = Message(activations={**passing, "z": _randn(4, 4)}, labels={"y": _randn(2, 2)}, options={"step": 1})
    wire = client.pack(message)
    assert all(wire.activations[name] is tensor for name, tensor in passing.items())
    assert wire.activations["z"].dtype == torch.uint8
    assert wire.labels is message.labels
    arrived = server.unpack(wire)
    assert all(torch.equal(arrived.activations[name], tensor) for name, tensor in passing.items())
    assert (arrived.side, arrived.options) == ({}, {"step": 1})
    assert arrived.activations["z"].shape == (4, 4)


def test_wire_names_come_from_the_tensors_names() -> None:
    client, _ = build_ends(CodecConfig(up=TopkConfig(k=2)), 0, 0)
    wire = client.pack(Message(activations={"z.1": _randn(3, 2, 2)}))
    assert list(wire.side) == ["activations.z.1.index"]
    assert wire.options == {
        "codec.packed": ["activations.z.1"],
        "codec.restricted": [],
        "activations.z.1.shape": [3, 2, 2],
    }


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: f"{cfg.up.kind}-{cfg.down.kind}")
def test_wire_bytes_of_an_exchange_are_the_analytic_ones(cfg: CodecConfig) -> None:
    client, server = build_ends(cfg, 0, 0)
    up = client.pack(Message(activations={"z": _randn(7, 3, 4)}))
    server.unpack(up)
    down = server.pack(Message(gradients={"z": _randn(7, 3, 4, seed=1)}))
    assert tuple(sum(wire.num_bytes(kind) for kind in KINDS) for wire in (up, down)) == cut_bytes(cfg, (7, 3, 4))


@pytest.mark.parametrize("up", [TopkConfig(k=3), RandtopkConfig(k=3, alpha=0.5)], ids=lambda up: up.kind)
def test_training_through_top_k_is_training_with_a_mask(up: TopkConfig | RandtopkConfig) -> None:
    """Autograd on the whole model, with the mask that crossed as a constant, gives the same gradients."""
    torch.manual_seed(0)
    below, above = nn.Linear(6, 10), nn.Sequential(nn.Tanh(), nn.Linear(10, 1))
    x = _randn(5, 6)
    client, server = build_ends(CodecConfig(up=up), 3, 1)
    z = below(x)
    received = _cross(client, server, Message(activations={"z": z.detach()})).activations["z"].requires_grad_()
    above(received).square().sum().backward()
    assert received.grad is not None
    wire = server.pack(Message(gradients={"z": received.grad}))
    assert wire.gradients["z"].shape == (5, 3)
    assert not wire.side
    gradient = client.unpack(wire).gradients["z"]
    z.backward(gradient)
    split = [parameter.grad.clone() for parameter in below.parameters() if parameter.grad is not None]

    mask = (received.detach() != 0).float()
    assert mask.sum(dim=1).tolist() == [3.0] * 5
    below.zero_grad()
    above(below(x) * mask).square().sum().backward()
    whole = [parameter.grad for parameter in below.parameters() if parameter.grad is not None]
    assert len(split) == len(whole) == 2
    for one, other in zip(split, whole, strict=True):
        assert torch.allclose(one, other, atol=1e-6)  # sums in another order
    assert torch.equal(gradient, received.grad * mask)


def test_kept_gradient_values_are_coded_too() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=3), down=Fp16Config()), 0, 0)
    arrived = _cross(client, server, Message(activations={"z": _randn(4, 9)})).activations["z"]
    gradient = _randn(4, 9, seed=1)
    back = _cross(server, client, Message(gradients={"z": gradient})).gradients["z"]
    assert torch.equal(back, torch.where(arrived != 0, gradient.half().float(), 0.0))


def test_restriction_holds_for_one_exchange_and_one_name() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=1)), 0, 0)
    _cross(client, server, Message(activations={"z": _randn(2, 4)}))
    ones = torch.ones(2, 4)
    assert torch.equal(_cross(server, client, Message(gradients={"other": ones})).gradients["other"], ones)
    assert _cross(server, client, Message(gradients={"z": ones})).gradients["z"].sum() == 2
    assert torch.equal(_cross(server, client, Message(gradients={"z": ones})).gradients["z"], ones)


def test_a_gradient_of_another_batch_is_not_restricted() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=1)), 0, 0)
    _cross(client, server, Message(activations={"z": _randn(2, 4)}))
    assert torch.equal(
        _cross(server, client, Message(gradients={"z": torch.ones(1, 4)})).gradients["z"], torch.ones(1, 4)
    )


def test_down_and_up_again_in_a_u_shape() -> None:
    """Activations that go down by top-k have their gradient restricted on the way up, beside those that go up."""
    client, server = build_ends(CodecConfig(up=Fp16Config(), down=TopkConfig(k=2)), 0, 0)
    arrived = _cross(server, client, Message(activations={"z2": _randn(3, 5)})).activations["z2"]
    wire = client.pack(Message(gradients={"z2": torch.ones(3, 5)}))
    assert wire.num_bytes("gradients") == 3 * 2 * 2
    assert torch.equal(server.unpack(wire).gradients["z2"], (arrived != 0).float())


def test_fedlite_corrects_the_gradient_at_the_sender() -> None:
    codec = FedliteConfig(num_subvectors=2, centroids=2, lam=0.25)
    client, server = build_ends(CodecConfig(up=codec), 0, 0)
    z, gradient = _randn(6, 4), _randn(6, 4, seed=1)
    arrived = _cross(client, server, Message(activations={"z": z})).activations["z"]
    assert not torch.allclose(arrived, z, atol=0.1)
    wire = server.pack(Message(gradients={"z": gradient}))
    assert torch.equal(wire.gradients["z"], gradient)
    assert torch.allclose(client.unpack(wire).gradients["z"], gradient + 0.25 * (z - arrived))
    assert torch.equal(_cross(server, client, Message(gradients={"z": gradient})).gradients["z"], gradient)


@pytest.mark.parametrize(
    "cfg",
    [
        CodecConfig(down=UniformConfig(bits=2), error_feedback=True),
        CodecConfig(down=TopkConfig(k=2), error_feedback=True),
        CodecConfig(up=TopkConfig(k=2), error_feedback=True),
        CodecConfig(up=RandtopkConfig(k=2), down=Fp16Config(), error_feedback=True),
    ],
    ids=lambda cfg: f"{cfg.up.kind}-{cfg.down.kind}",
)
def test_sent_and_residual_add_up_to_the_gradients(cfg: CodecConfig) -> None:
    """Also with a short last batch in between: its rows are the first places of the batch."""
    client, server = build_ends(cfg, 0, 0)
    wanted, sent = torch.zeros(4, 6), torch.zeros(4, 6)
    for step, num_rows in enumerate([4, 4, 2, 4, 1]):
        _cross(client, server, Message(activations={"z": _randn(num_rows, 6, seed=step)}))
        gradient = _randn(num_rows, 6, seed=100 + step)
        wanted[:num_rows] += gradient
        sent[:num_rows] += _cross(server, client, Message(gradients={"z": gradient})).gradients["z"]
    residual = server.state()["residual"]["z"]
    assert residual.abs().max() > 1e-4
    assert torch.allclose(sent + residual, wanted, atol=1e-5)  # float32 sums of five terms


def test_without_error_feedback_nothing_is_kept() -> None:
    client, server = build_ends(CodecConfig(down=UniformConfig(bits=2)), 0, 0)
    _cross(server, client, Message(gradients={"z": _randn(2, 3)}))
    assert server.state()["residual"] == {}


def _exchange(ends: tuple[ChannelEnd, ChannelEnd], step: int) -> list[Tensor]:
    client, server = ends
    z = _cross(client, server, Message(activations={"z": _randn(3, 12, seed=step)})).activations["z"]
    g = _cross(server, client, Message(gradients={"z": _randn(3, 12, seed=50 + step)})).gradients["z"]
    return [z, g]


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: f"{cfg.up.kind}-{cfg.down.kind}")
def test_resumes_exactly_between_activations_and_gradient(cfg: CodecConfig) -> None:
    whole = build_ends(cfg, 7, 2)
    _exchange(whole, 0)
    _cross(*whole, Message(activations={"z": _randn(3, 12, seed=1)}))
    states = pickle.loads(pickle.dumps([end.state() for end in whole]))
    resumed = build_ends(cfg, 7, 2)
    for end, state in zip(resumed, states, strict=True):
        end.load_state(state)
    for ends in (whole, resumed):
        gradient = _cross(ends[1], ends[0], Message(gradients={"z": _randn(3, 12, seed=51)})).gradients["z"]
        after = [gradient, *_exchange(ends, 2), *_exchange(ends, 3)]
        if ends is whole:
            expected = after
    assert all(torch.equal(one, other) for one, other in zip(expected, after, strict=True))


def test_chances_differ_by_seed_client_end_and_message() -> None:
    cfg = CodecConfig(up=UniformConfig(bits=1), down=UniformConfig(bits=1))
    message = Message(activations={"z": torch.linspace(0, 1, 400).view(4, 100)})
    ends = [end for seed in (0, 1) for client in (0, 1) for end in build_ends(cfg, seed, client)]
    drawn = [end.pack(message).activations["z"].tolist() for _ in range(2) for end in ends]
    assert len({tuple(stream) for stream in drawn}) == 16
    again = build_ends(cfg, 0, 0)[0].pack(message).activations["z"].tolist()
    assert again == drawn[0]


def test_refuses_a_shape_that_does_not_fit() -> None:
    client, _ = build_ends(CodecConfig(up=TopkConfig(k=9)), 0, 0)
    with pytest.raises(UsageError) as caught:
        client.pack(Message(activations={"z": _randn(2, 4)}))
    assert caught.value.message == "codec.up: topk keeps k = 9 values of a sample, but only 4 cross the cut"


def test_refuses_an_answer_to_what_was_never_sent() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=1)), 0, 0)
    server.unpack(client.pack(Message(activations={"z": _randn(2, 4)})))
    wire = server.pack(Message(gradients={"z": _randn(2, 4)}))
    stranger, _ = build_ends(CodecConfig(up=TopkConfig(k=1)), 0, 0)
    with pytest.raises(EdgeAIError) as caught:
        stranger.unpack(wire)
    assert caught.value.message == 'the gradient "z" belongs to activations that this end of the link has not sent'
    assert caught.value.hint == "keep both ends for the whole run, or save and load them together"


def test_one_direction_alone() -> None:
    client, server = build_ends(CodecConfig(up=NoCodec(), down=Fp16Config()), 0, 0)
    message = Message(activations={"z": _randn(2, 4)})
    assert client.pack(message) is message
    wire = server.pack(Message(gradients={"z": torch.tensor([[1.0, 1.0 + 2**-12]])}))
    assert wire.num_bytes("gradients") == 4
    assert client.unpack(wire).gradients["z"].tolist() == [[1.0, 1.0]]


def test_other_precision_arrives_as_float32() -> None:
    client, server = build_ends(CodecConfig(up=TopkConfig(k=4)), 0, 0)
    wire = client.pack(Message(activations={"z": _randn(2, 4).to(torch.bfloat16)}))
    assert wire.num_bytes("activations") == 2 * 4 * 4
    assert torch.equal(server.unpack(wire).activations["z"], _randn(2, 4).to(torch.bfloat16).float())
