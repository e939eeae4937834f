"""Image models: LeNet-5, the net of the NoPeek experiments, a small CNN; and an MLP.

Shapes: samples [C, H, W] unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from edgeai.fedsplit.models.input_shapes import chain, norm_layers

Shape3 = tuple[int, int, int]


def lenet5(shape: Shape3, num_classes: int) -> nn.Sequential:
    """Return LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling; the first convolution is padded by 2.

    Values at the cuts for a 28x28 sample: 1,176 after conv1, 400 after conv2, 120 after fc1, 84 after fc2.
    """
    channels, height, width = shape
    flat = 16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
    return chain(
        conv1=nn.Sequential(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        conv2=nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        fc1=nn.Sequential(nn.Flatten(), nn.Linear(flat, 120), nn.ReLU()),
        fc2=nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        out=nn.Linear(84, num_classes),
    )


def nopeek(shape: Shape3, num_classes: int, *, softmax: bool) -> nn.Sequential:
    """Return the net of Titcombe et al. 2021, cut after fc1, whose tanh bounds the smashed data.

    Args:
        shape: Shape of a sample.
        num_classes: Number of outputs.
        softmax: Whether to end with a softmax, as the published code does although its loss includes one.
    """
    channels, height, width = shape
    flat = 64 * ((height - 4) // 2) * ((width - 4) // 2)
    last: list[nn.Module] = [nn.Linear(128, num_classes)] + ([nn.Softmax(dim=1)] if softmax else [])
    return chain(
        conv1=nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU()),
        conv2=nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        fc1=nn.Sequential(nn.Flatten(), nn.Linear(flat, 500), nn.Tanh()),
        fc2=nn.Sequential(nn.Linear(500, 128), nn.ReLU()),
        out=nn.Sequential(*last),
    )


def cnn(shape: Shape3, num_classes: int, *, channels: Sequence[int], hidden: int, norm: str) -> nn.Sequential:
    """Return 3x3 convolutions, each with normalization, ReLU and 2x2 max-pooling, then two fully connected layers."""
    layers: dict[str, nn.Module] = {}
    inner, height, width = shape
    for number, outer in enumerate(channels, 1):
        conv = nn.Conv2d(inner, outer, 3, padding=1, bias=norm == "none")
        layers[f"conv{number}"] = nn.Sequential(conv, *norm_layers(norm, outer, dims=2), nn.ReLU(), nn.MaxPool2d(2))
        inner, height, width = outer, height // 2, width // 2
    layers["fc"] = nn.Sequential(nn.Flatten(), nn.Linear(inner * height * width, hidden), nn.ReLU())
    return chain(**layers, out=nn.Linear(hidden, num_classes))


def mlp(shape: Sequence[int], num_classes: int, hidden: Sequence[int]) -> nn.Sequential:
    """Return fully connected layers with ReLU, for samples of any shape."""
    layers: dict[str, nn.Module] = {}
    inner = math.prod(shape)
    for number, outer in enumerate(hidden, 1):
        first = [nn.Flatten()] if number == 1 else []
        layers[f"fc{number}"] = nn.Sequential(*first, nn.Linear(inner, outer), nn.ReLU())
        inner = outer
    return chain(**layers, out=nn.Linear(inner, num_classes))
