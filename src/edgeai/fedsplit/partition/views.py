"""Partitions that change what a client sees of a sample: how it looks, or which of its inputs there are.

Shapes: x [n, C, H, W] for pictures, [n, ..., F] otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import FeaturesConfig, VerticalPartitionConfig
from edgeai.fedsplit.data.samples import Dataset, Samples


def skewed(samples: Samples, cfg: FeaturesConfig, client: int, num_clients: int, seed: int) -> Samples:
    """The samples as one client sees them: the first as they are, the last with all of the change.

    Args:
        samples: Of that client.
        cfg: The change of the last client.
        client: From 0.
        num_clients: All of them.
        seed: Of the run; each client has noise of its own.

    Raises:
        UsageError: Samples that are no pictures cannot be turned.
    """
    strength = client / (num_clients - 1) if num_clients > 1 else 0.0
    x = samples.x
    if not x.is_floating_point():
        raise UsageError("partition features: tokens cannot be turned or made noisy", hint="choose another partition")
    if cfg.rotate_deg and x.ndim != 4:
        raise UsageError(
            f"partition features: samples of shape {list(x.shape[1:])} are no pictures and cannot be turned",
            hint="set partition.rotate_deg=0 and, for example, partition.noise_std=0.5",
        )
    if cfg.rotate_deg and strength:
        x = _turned(x, cfg.rotate_deg * strength)
    if cfg.contrast != 1.0 and strength:
        middle = x.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))
        x = middle + cfg.contrast**strength * (x - middle)
    if cfg.noise_std and strength:
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + client)
        x = x + cfg.noise_std * strength * torch.randn(x.shape, generator=generator)
    return Samples(x, samples.y)


def vertical_inputs(dataset: Dataset, cfg: VerticalPartitionConfig, num_clients: int) -> list[Tensor]:
    """The places on the axis that is dealt out, for each client, int64.

    Raises:
        UsageError: There are fewer inputs than clients, or the named columns do not fit the table.
    """
    if cfg.columns:
        return _named_columns(dataset, cfg.columns, num_clients)
    if dataset.columns:  # the inputs of one column stay together
        names = list(dict.fromkeys(dataset.columns))
        _enough(len(names), num_clients, "columns")
        owners = {name: client for client, part in enumerate(np.array_split(names, num_clients)) for name in part}
        owner = torch.tensor([owners[name] for name in dataset.columns])
        return [torch.nonzero(owner == client).flatten() for client in range(num_clients)]
    size = dataset.train.x.shape[_axis(dataset.train.x, cfg)]
    _enough(size, num_clients, cfg.axis)
    return [torch.from_numpy(part) for part in np.array_split(np.arange(size), num_clients)]


def take_inputs(x: Tensor, cfg: VerticalPartitionConfig, inputs: Tensor) -> Tensor:
    """A client's part of the inputs, such as [n, C, H, W / num_clients]."""
    return x.index_select(_axis(x, cfg), inputs)


def _axis(x: Tensor, cfg: VerticalPartitionConfig) -> int:
    if cfg.axis == "rows" and x.ndim < 3:
        raise UsageError(
            f"partition.axis: samples of shape {list(x.shape[1:])} have no rows", hint="set partition.axis=columns"
        )
    return x.ndim - 2 if cfg.axis == "rows" else x.ndim - 1


def _enough(size: int, num_clients: int, what: str) -> None:
    if size < num_clients:
        raise UsageError(
            f"partition vertical: client {size} gets no inputs: {size} {what} for {num_clients} clients",
            hint="lower num_clients",
        )


def _named_columns(dataset: Dataset, columns: tuple[tuple[str, ...], ...], num_clients: int) -> list[Tensor]:
    if len(columns) != num_clients:
        raise UsageError(
            f"partition.columns: {len(columns)} lists for {num_clients} clients", hint="give one list of columns each"
        )
    known = dict.fromkeys(dataset.columns)
    if not known:
        raise UsageError(f"partition.columns: {dataset.name} has no named columns", hint="use it with data.kind=csv")
    for client, names in enumerate(columns):
        for name in names:
            if name not in known:
                near = nearest(name, known)
                hint = f'did you mean "{near}"? ' if near else ""
                raise UsageError(
                    f'partition.columns: no column "{name}" in {dataset.name}',
                    hint=f"{hint}there are {', '.join(known)}",
                )
        if not names:
            raise UsageError(f"partition.columns: client {client} gets no inputs", hint="name a column for it")
    found = [[place for place, name in enumerate(dataset.columns) if name in set(names)] for names in columns]
    return [torch.tensor(places) for places in found]


def _turned(x: Tensor, angle_deg: float) -> Tensor:
    """Pictures [n, C, H, W], turned counterclockwise around their middle; edges are drawn out."""
    angle = math.radians(angle_deg)
    height, width = x.shape[2:]
    cos, sin = math.cos(angle), math.sin(angle)
    # from a place in the turned picture to the one it shows; both axes run from -1 to 1, whatever the shape
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
