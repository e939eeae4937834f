"""What straight-line versions of methods need: the tiny net and each client's batches, in the order of the run."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edgeai.fedsplit.protocol.batching import derived_seed

_SIZES, _NUM_TEST, _BATCH = (40, 56, 33), 100, 16

Batches = Callable[..., list[tuple[Tensor, Tensor]]]


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.tensor(found.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(found.target)


def _batches(
    number: int, client: int, *, batch: int = _BATCH, seed: int = 0, epochs: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """A client's batches (x, y) of one round."""
    x, y = _digits()
    start = _NUM_TEST + sum(_SIZES[:client])
    rows = slice(start, start + _SIZES[client])
    orders = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(derived_seed(seed, number, client, epoch, 1))
        orders += torch.randperm(_SIZES[client], generator=generator).split(batch)
    return [(x[rows][some], y[rows][some]) for some in orders]


@pytest.fixture
def batches() -> Batches:
    return _batches


@pytest.fixture
def tiny() -> nn.Sequential:
    """The net with its start weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        nn.Sequential(nn.Linear(32, 16), nn.ReLU()),
        nn.Linear(16, 10),
    )
