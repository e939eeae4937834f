"""Class maps: sums of probabilities, and error messages for mismatches."""

import pytest
import torch

from edgeai.collab.models.class_map import build_class_map
from edgeai.core.errors import UsageError

STREAM = ("sky", "road", "car")


def build(names, num, mapping, stream=STREAM):
    return build_class_map(names, num, stream, mapping, where="net.pt")


def test_without_names_the_outputs_are_the_streams_classes():
    raw = torch.randn(2, 3, 4, 5)
    assert build((), 3, {}).logits(raw) is raw


def test_probabilities_of_joined_classes_add_up():
    names = ("car", "truck", "tree", "road", "sky")
    raw = torch.randn(2, 5, 4, 6)
    probs = build(names, 5, {"truck": "car", "tree": None}).logits(raw).softmax(1)
    kept = raw[:, [0, 1, 3, 4]].softmax(1)
    expected = torch.stack([kept[:, 3], kept[:, 2], kept[:, 0] + kept[:, 1]], dim=1)
    torch.testing.assert_close(probs, expected)  # float32 rounding


def test_a_class_the_model_does_not_know_is_never_the_answer():
    logits = build(("sky", "road"), 2, {}).logits(torch.randn(1, 2, 8, 8) * 20)
    assert torch.isfinite(logits).all()
    assert not (logits.argmax(1) == 2).any()
    assert logits.softmax(1)[:, 2].max() < 1e-4  # e^-10 of the least likely class


def test_gradients_pass():
    raw = torch.randn(1, 4, 2, 2, requires_grad=True)
    build(("sky", "road", "car", "van"), 4, {"van": "car"}).logits(raw).sum().backward()
    assert (raw.grad != 0).all()


@pytest.mark.parametrize(
    ("names", "num", "mapping", "text"),
    [
        ((), 5, {}, "net.pt has 5 output classes, but the stream has 3: sky, road, car"),
        (("sky", "road"), 3, {}, "net.pt has 3 output classes, but its config names 2: sky, road"),
        (("sky", "road", "van"), 3, {}, 'class "van" of net.pt has no class "van" in the stream'),
        (("sky", "road", "van"), 3, {"van": "bus"}, 'class "van" of net.pt has no class "bus" in the stream'),
        (("sky", "road", "car"), 3, {"van": "car"}, 'class_map names "van", which is not a class of net.pt'),
        (("x",), 1, {"x": None}, "class_map ignores all classes of net.pt"),
    ],
)
def test_mismatched_class_maps_are_rejected(names, num, mapping, text):
    with pytest.raises(UsageError) as caught:
        build(names, num, mapping)
    assert caught.value.message == text
    assert caught.value.hint
