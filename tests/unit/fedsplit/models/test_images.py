"""Oracles: parameter counts and sizes by hand, the tables of the papers, and plain torch layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.models import CnnConfig, LeNet5Config, MlpConfig, ModelConfig, NoPeekConfig, ResNet18Config
from edgeai.fedsplit.models.build import build_model


def counts(model: nn.Sequential) -> dict[str, int]:
    return {name: sum(weight.numel() for weight in layer.parameters()) for name, layer in model.named_children()}


def sizes(model: nn.Sequential, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the number of values of one sample after each layer."""
    found, x = {}, torch.zeros(2, *shape)
    for name, layer in model.named_children():
        x = layer(x)
        found[name] = x[0].numel()
    return found


def test_lenet5_is_the_one_of_the_cut_table() -> None:
    model = build_model(LeNet5Config(), (1, 28, 28), 10)
    by_layer = counts(model)
    assert sum(by_layer.values()) == 61_706
    names = list(by_layer)
    assert names == ["conv1", "conv2", "fc1", "fc2", "out"]
    assert [sum(by_layer[name] for name in names[:end]) for end in (1, 2, 3, 4)] == [156, 2_572, 50_692, 60_856]
    assert sizes(model, (1, 28, 28)) == {"conv1": 1176, "conv2": 400, "fc1": 120, "fc2": 84, "out": 10}


def test_lenet5_starts_as_a_plain_chain_of_layers_does() -> None:
    torch.manual_seed(7)
    plain = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    torch.manual_seed(7)
    ours = build_model(LeNet5Config(), (1, 28, 28), 10)
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(plain(x), ours(x))


def test_nopeek_net_has_500_bounded_values_at_its_cut() -> None:
    model = build_model(NoPeekConfig(), (1, 28, 28), 10)
    assert counts(model) == {"conv1": 320, "conv2": 18_496, "fc1": 9216 * 500 + 500, "fc2": 64_128, "out": 1_290}
    assert sizes(model, (1, 28, 28))["fc1"] == 500
    z = model[:3](100 * torch.randn(4, 1, 28, 28))
    assert z.abs().max() <= 1
    assert z.min() < 0
    softmax = build_model(NoPeekConfig(softmax=True), (1, 28, 28), 10)
    assert torch.allclose(softmax(torch.randn(3, 1, 28, 28)).sum(1), torch.ones(3))


def test_cnn_on_digits() -> None:
    model = build_model(CnnConfig(), (1, 8, 8), 10)
    assert counts(model) == {"conv1": 144 + 32, "conv2": 4608 + 64, "fc": 128 * 64 + 64, "out": 650}
    assert sizes(model, (1, 8, 8)) == {"conv1": 16 * 4 * 4, "conv2": 32 * 2 * 2, "fc": 64, "out": 10}
    assert not list(model.buffers())
    plain = build_model(CnnConfig(norm="none"), (1, 8, 8), 10)
    assert counts(plain)["conv1"] == 144 + 16  # bias instead of scale and shift
    batch = build_model(CnnConfig(norm="batch"), (1, 8, 8), 10)
    assert len(list(batch.buffers())) == 6


def test_resnet18_has_the_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = build_model(ResNet18Config(norm="batch"), (3, 224, 224), 1000)
        small = build_model(ResNet18Config(), (3, 32, 32), 10)
    assert sum(counts(model).values()) == 11_689_512
    assert sum(counts(small).values()) == 11_173_962  # 3x3 stem, ten classes
    assert list(counts(small)) == ["stem", *(f"block{n}" for n in range(1, 9)), "pool", "out"]


def test_resnet18_halves_the_picture_with_each_later_stage() -> None:
    model = build_model(ResNet18Config(width=4), (1, 32, 32), 10)
    found = sizes(model, (1, 32, 32))
    assert [found[f"block{n}"] for n in (2, 4, 6, 8)] == [4 * 32 * 32, 8 * 16 * 16, 16 * 8 * 8, 32 * 4 * 4]
    assert found["pool"] == 32


def test_mlp_takes_any_shape() -> None:
    model = build_model(MlpConfig(hidden=(5, 3)), (2, 4), 7)
    assert counts(model) == {"fc1": 45, "fc2": 18, "out": 28}
    assert model(torch.zeros(2, 2, 4)).shape == (2, 7)


@pytest.mark.parametrize(
    ("cfg", "shape", "text"),
    [
        (LeNet5Config(), (64,), "model lenet5 takes images [C, H, W], these samples have the shape [64]"),
        (LeNet5Config(), (1, 8, 8), "model lenet5 takes images of at least 12x12 px, these have 8x8"),
        (CnnConfig(channels=(4,) * 4), (1, 8, 8), "model cnn takes images of at least 16x16 px, these have 8x8"),
    ],
)
def test_samples_that_do_not_fit(cfg: ModelConfig, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(cfg, shape, 10)
    assert caught.value.message == text
    assert "model.kind=" in caught.value.hint


def test_the_smallest_pictures_that_are_taken_do_run() -> None:
    for cfg, px in ((LeNet5Config(), 12), (NoPeekConfig(), 6), (CnnConfig(channels=(4,) * 4), 16)):
        assert build_model(cfg, (1, px, px), 3)(torch.zeros(2, 1, px, px)).shape == (2, 3)
