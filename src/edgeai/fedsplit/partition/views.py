"""Client views of samples: feature skew (rotation, contrast, noise), and vertical partitions by inputs.

Shapes: x [n, C, H, W] for images, [n, ..., F] otherwise.
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


def skew_features(samples: Samples, cfg: FeaturesConfig, client: int, num_clients: int, seed: int) -> Samples:
    """Return a client's samples with feature skew, which grows from none on the first client to all on the last.

    Args:
        samples: Samples of the client.
        cfg: Skew of the last client.
        client: Client number, from 0.
        num_clients: Number of clients.
        seed: Seed of the run; the noise differs between clients.

    Raises:
        UsageError: The samples are not images and cannot be rotated, or are tokens.
    """
    strength = client / (num_clients - 1) if num_clients > 1 else 0.0
    x = samples.x
    if not x.is_floating_point():
        raise UsageError("partition features: tokens can be neither rotated nor noisy", hint="choose another partition")
    if cfg.rotate_deg and x.ndim != 4:
        raise UsageError(
            f"partition features: samples of shape {list(x.shape[1:])} are not images and cannot be rotated",
            hint="set partition.rotate_deg=0 and, for example, partition.noise_std=0.5",
        )
    if cfg.rotate_deg and strength:
        x = _rotated(x, cfg.rotate_deg * strength)
    if cfg.contrast != 1.0 and strength:
        middle = x.flatten(1).mean(1).view(-1, *[1] * (x.ndim - 1))
        x = middle + cfg.contrast**strength * (x - middle)
    if cfg.noise_std and strength:
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + client)
        x = x + cfg.noise_std * strength * torch.randn(x.shape, generator=generator)
    return Samples(x, samples.y)


def vertical_inputs(dataset: Dataset, cfg: VerticalPartitionConfig, num_clients: int) -> list[Tensor]:
    """Return each client's indices on the partitioned axis, int64.

    Raises:
        UsageError: There are fewer inputs than clients, or the named columns are not in the table.
    """
    if cfg.columns:
        return _named_columns(dataset, cfg.columns, num_clients)
    if dataset.columns:  # a column's inputs stay together
        names = list(dict.fromkeys(dataset.columns))
        _enough(len(names), num_clients, "columns")
        owners = {name: client for client, part in enumerate(np.array_split(names, num_clients)) for name in part}
        owner = torch.tensor([owners[name] for name in dataset.columns])
        return [torch.nonzero(owner == client).flatten() for client in range(num_clients)]
    size = dataset.train.x.shape[_axis(dataset.train.x, cfg)]
    _enough(size, num_clients, cfg.axis)
    return [torch.from_numpy(part) for part in np.array_split(np.arange(size), num_clients)]


def take_inputs(x: Tensor, cfg: VerticalPartitionConfig, inputs: Tensor) -> Tensor:
    """Return a client's inputs, such as [n, C, H, W / num_clients]."""
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
            raise UsageError(
                f"partition.columns: client {client} gets no inputs", hint="list at least one column for it"
            )
    found = [[place for place, name in enumerate(dataset.columns) if name in set(names)] for names in columns]
    return [torch.tensor(places) for places in found]


def _rotated(x: Tensor, angle_deg: float) -> Tensor:
    """Return images [n, C, H, W] rotated counterclockwise around their center, with edge pixels repeated."""
    angle = math.radians(angle_deg)
    height, width = x.shape[2:]
    cos, sin = math.cos(angle), math.sin(angle)
    # maps output to input positions; both axes run from -1 to 1, whatever the shape
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
