"""Model pushes: the edge's weights after a push, against hand-computed values, and rejected pushes."""

import zlib

import pytest
import torch
from safetensors.torch import save
from torch import nn

from edgeai.collab.models.state import state_digest
from edgeai.collab.wire.model_push import apply_push, batch_norm_names, encode_push, largest_changes
from edgeai.core.errors import EdgeAIError

HINT = "the edge keeps its model; push the whole model instead (kind full)"
BN = ["1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight"]


def make_state(seed, *, width=16):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 4, 1))
    net(torch.randn(2, 3, 8, 8) * (1 + seed))  # moves the running statistics
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.fixture
def old():
    return make_state(0)


@pytest.fixture
def new():
    return make_state(1)


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def halved(state):
    return {name: t.half().float() if t.is_floating_point() else t for name, t in state.items()}


def test_full_gives_the_new_model_in_float16_steps_to_any_edge(old, new):
    data = encode_push(new, old, "full")
    before = {name: tensor.clone() for name, tensor in old.items()}
    assert equal(apply_push(data, old), halved(new))
    assert equal(apply_push(data, make_state(5)), halved(new))
    assert equal(old, before)
    num_values = sum(tensor.numel() for tensor in new.values())
    assert len(data) < 2 * num_values + 1500  # two bytes each, and the header


def test_bn_changes_batch_normalization_and_nothing_else(old, new):
    assert batch_norm_names(old) == BN
    result = apply_push(encode_push(new, old, "bn"), old)
    assert equal(result, {name: halved(new)[name] if name in BN else old[name] for name in old})


def test_bn_of_a_model_without_any():
    state = nn.Linear(2, 2).state_dict()
    with pytest.raises(EdgeAIError, match=r"^cannot push kind bn: the model has no BatchNorm layers$"):
        encode_push(state, state, "bn")


def test_largest_changes_by_hand():
    old = {"a": torch.zeros(2, 2), "b": torch.zeros(4), "n.running_mean": torch.zeros(1)}
    new = {
        "a": torch.tensor([[0.1, -0.9], [0.0, 0.3]]),
        "b": torch.tensor([0.0, 0.5, -0.2, 0.0]),
        "n.running_mean": torch.tensor([99.0]),
    }
    masks = largest_changes(new, old, 3 / 8)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [False, True, False, False]
    assert sum(int(mask.sum()) for mask in largest_changes(new, old, 1.0).values()) == 5  # three did not change
    assert set(masks) == {"a", "b"}


@pytest.mark.parametrize("frac", [0.05, 0.3, 1.0])
def test_delta_changes_the_largest_and_the_running_statistics(old, new, frac):
    result = apply_push(encode_push(new, old, "delta", frac=frac), old)
    masks = largest_changes(new, old, frac)
    for name in old:
        if name in masks:
            assert torch.equal(result[name], torch.where(masks[name], halved(new)[name], old[name]))
        else:
            assert torch.equal(result[name], halved(new)[name])


def test_delta_is_smaller_than_full_by_about_its_share():
    """2 bytes for a value in 20 and at most one bit for every value: 0.1 + 0.125 against 2 bytes, and two headers."""
    old, new = make_state(0, width=2000), make_state(1, width=2000)
    full, delta = (len(encode_push(new, old, kind, frac=0.05)) for kind in ("full", "delta"))
    assert delta < 0.25 * full


def test_pushes_follow_each_other(old):
    """The sender keeps what the edge holds: apply_push of its own push. Twice, so that rounding cannot add up."""
    edge = old
    for seed in (1, 2):
        data = encode_push(make_state(seed), edge, "delta", frac=0.2)
        assert state_digest(apply_push(data, edge)) != state_digest(edge)
        edge = apply_push(data, edge)


def test_a_push_for_another_version_is_refused(old, new):
    other = make_state(3)
    with pytest.raises(EdgeAIError) as caught:
        apply_push(encode_push(new, old, "delta"), other)
    assert caught.value.message == f"this push is for model {state_digest(old)}, not {state_digest(other)}"
    assert caught.value.hint == HINT


def test_a_push_for_another_architecture_is_refused(old, new):
    with pytest.raises(EdgeAIError) as caught:
        apply_push(encode_push(new, old, "full"), make_state(0, width=8))
    assert caught.value.message == "this push is for another architecture: 0.bias [16]"
    with pytest.raises(EdgeAIError) as caught:
        apply_push(encode_push(new, old, "full"), {"other": torch.zeros(2)})
    assert caught.value.message == "this push is for another architecture: 0.bias [16]"


def test_damaged_pushes_are_one_line(old, new):
    data = encode_push(new, old, "full")
    with pytest.raises(EdgeAIError, match=r"^damaged model push \(100 bytes\): truncated or too large$"):
        apply_push(data[:100], old)
    for damaged in (b"no push", zlib.compress(b"no safetensors"), zlib.compress(save({"0.bias": torch.zeros(16)}))):
        with pytest.raises(EdgeAIError, match=r"^damaged model push \(\d+ bytes\): [^\n]+$"):
            apply_push(damaged, old)


def test_changed_values_are_noticed(old, new):
    raw = bytearray(zlib.decompress(encode_push(new, old, "full")))
    raw[-1] ^= 1
    with pytest.raises(EdgeAIError, match=f"^this push does not result in model {state_digest(halved(new))}$"):
        apply_push(zlib.compress(bytes(raw)), old)


def test_a_decompression_bomb_is_rejected(old):
    with pytest.raises(EdgeAIError, match="truncated or too large"):
        apply_push(zlib.compress(bytes(50_000_000), 9), old)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_values_beyond_float16_are_reported(old, new, value):
    new["2.weight"][0, 0] = value
    with pytest.raises(EdgeAIError, match=r"^cannot push 2\.weight: a value is not finite or too large for float16$"):
        encode_push(new, old, "full")


def test_the_same_update_is_the_same_bytes():
    """A push's size is part of a run's report, which must repeat exactly."""
    old, new = {"weight": torch.zeros(4, 4)}, {"weight": torch.ones(4, 4)}
    assert len({encode_push(new, old, kind) for kind in ("full", "delta") for _ in range(20)}) == 2
