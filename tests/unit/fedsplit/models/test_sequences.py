"""Oracles: parameter counts by hand and from the papers; a sequence cut in time equals the whole one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.models import Cnn1dConfig, EcgConfig, GruConfig, ModelConfig
from edgeai.fedsplit.models.build import build_model
from edgeai.fedsplit.models.sequences import GruLayer


def num_params(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_ecg_net_has_the_sizes_of_the_papers() -> None:
    two = build_model(EcgConfig(), (1, 128), 5)
    assert num_params(two[:2]) == 1_424
    assert two[:3](torch.zeros(1, 1, 128)).numel() == 512
    assert num_params(two) == 1_424 + 512 * 128 + 128 + 128 * 5 + 5
    five = build_model(EcgConfig(num_convs=5), (128,), 5)
    assert num_params(five) == 71_621
    assert [name for name, _ in five.named_children()][:3] == ["conv1", "conv2", "pool2"]
    assert five[:2](torch.zeros(1, 128)).numel() == 1_024


def test_cnn1d() -> None:
    model = build_model(Cnn1dConfig(), (40, 20), 10)
    assert num_params(model[0]) == 40 * 32 * 5 + 2 * 32
    assert num_params(model[2]) == 64 * 5 * 64 + 64
    assert model(torch.zeros(3, 40, 20)).shape == (3, 10)
    alone = build_model(Cnn1dConfig(), (20,), 10)
    assert alone[0](torch.zeros(3, 20)).shape == (3, 32, 10)


def test_gru_takes_steps_rows_and_tokens() -> None:
    steps = build_model(GruConfig(hidden=6, num_layers=2), (7, 5), 3)
    assert [name for name, _ in steps.named_children()] == ["gru1", "gru2", "last", "out"]
    assert num_params(steps[0]) == 3 * (6 * 5 + 6 * 6 + 2 * 6)
    assert steps(torch.zeros(2, 7, 5)).shape == (2, 3)
    rows = build_model(GruConfig(hidden=6), (2, 7, 5), 3)
    assert num_params(rows[0]) == 3 * (6 * 10 + 6 * 6 + 2 * 6)
    tokens = build_model(GruConfig(hidden=6, vocab=11, embed=4), (7,), 3)
    assert tokens(torch.randint(11, (2, 7))).shape == (2, 3)


def test_rows_of_a_picture_are_its_steps() -> None:
    model = build_model(GruConfig(hidden=6), (1, 7, 5), 3)
    same = build_model(GruConfig(hidden=6), (7, 5), 3)
    same.load_state_dict({name.replace("gru1.1.", "gru1."): w for name, w in model.state_dict().items()})
    x = torch.randn(4, 7, 5)
    assert torch.equal(model(x[:, None]), same(x))


def test_a_layer_can_go_on_from_a_state() -> None:
    layer, x = GruLayer(5, 6), torch.randn(2, 7, 5)
    whole = layer(x)
    begin = layer(x[:, :3])
    torch.testing.assert_close(layer(x[:, 3:], begin[:, -1]), whole[:, 3:])


@pytest.mark.parametrize(
    ("cfg", "shape", "text"),
    [
        (GruConfig(), (7,), "model gru takes steps [T, F] or images [C, H, W], or tokens [T] with model.vocab,"
         " these samples have the shape [7]"),
        (GruConfig(vocab=9), (7, 5), "model gru takes tokens [T], these samples have the shape [7, 5]"),
        (Cnn1dConfig(), (1, 8, 8), "model cnn1d takes sequences [C, T] or [T], these samples have the shape [1, 8, 8]"),
        (Cnn1dConfig(channels=(4, 4, 4)), (1, 7), "model cnn1d takes sequences of at least 8 steps, these have 7"),
    ],
)  # fmt: skip
def test_samples_that_do_not_fit(cfg: ModelConfig, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(cfg, shape, 10)
    assert caught.value.message == text
