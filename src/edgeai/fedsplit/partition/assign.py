"""Assign training samples to clients, or in a vertical partition the inputs of all samples.

iid and Dirichlet partitions draw from numpy.random.default_rng(seed + 1), as the reference baseline does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import (
    DirichletConfig,
    FeaturesConfig,
    LabelsConfig,
    NaturalConfig,
    PartitionConfig,
    QuantityConfig,
    ShardsConfig,
    VerticalPartitionConfig,
)
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.partition.views import skew_features, take_inputs, vertical_inputs

_MAX_DRAWS = 1000


def partition(dataset: Dataset, cfg: PartitionConfig, num_clients: int, seed: int) -> list[Samples]:
    """Return the training samples of each client.

    Args:
        dataset: Data set whose training samples are partitioned.
        cfg: Kind of partition and its options.
        num_clients: Number of clients.
        seed: Seed of the run.

    Raises:
        UsageError: A client would have no samples, or the partition does not fit the data.
    """
    if isinstance(cfg, VerticalPartitionConfig):
        inputs = vertical_inputs(dataset, cfg, num_clients)
        return [Samples(take_inputs(dataset.train.x, cfg, part), dataset.train.y) for part in inputs]
    parts = [dataset.train.pick(rows) for rows in assign_rows(dataset, cfg, num_clients, seed)]
    if isinstance(cfg, FeaturesConfig):
        return [skew_features(part, cfg, client, num_clients, seed) for client, part in enumerate(parts)]
    return parts


def assign_rows(dataset: Dataset, cfg: PartitionConfig, num_clients: int, seed: int) -> list[Tensor]:
    """Return the row numbers of each client's training samples, int64; in a vertical partition all rows.

    Raises:
        UsageError: A client would have no samples, or the partition does not fit the data.
    """
    num = len(dataset.train)
    y = dataset.train.y.numpy()
    if isinstance(cfg, VerticalPartitionConfig):
        return [torch.arange(num)] * num_clients
    if num_clients > num:
        raise UsageError(
            f"partition: {num_clients} clients for {num} samples leave clients without samples",
            hint="lower num_clients, or raise data.num_train",
        )
    rows: Sequence[np.ndarray]
    if isinstance(cfg, DirichletConfig):
        rows = _dirichlet(y, num_clients, cfg.alpha, cfg.min_samples, seed)
    elif isinstance(cfg, ShardsConfig | LabelsConfig | QuantityConfig | NaturalConfig):
        from edgeai.fedsplit.partition.flwr_partitioners import assign_rows_with_flwr

        rows = assign_rows_with_flwr(dataset, cfg, num_clients, seed)
    else:
        rows = np.array_split(np.random.default_rng(seed + 1).permutation(num), num_clients)
    empty = next((client for client, found in enumerate(rows) if not len(found)), None)
    if empty is not None:
        raise UsageError(
            f"partition {cfg.kind}: client {empty} gets no samples", hint="lower num_clients, or change the partition"
        )
    return [torch.from_numpy(np.asarray(found, dtype=np.int64)) for found in rows]


def _dirichlet(y: np.ndarray, num_clients: int, alpha: float, min_samples: int, seed: int) -> list[np.ndarray]:
    """Return rows by client: each class is shuffled and split at shares from Dirichlet(alpha, ..., alpha).

    Hsu et al. 2019. Redraws until every client has enough samples. The partitioner of flwr-datasets gives up after ten
    draws and does not shuffle first, so it cannot reproduce the reference baseline.
    """
    wanted = min(min_samples, max(1, len(y) // (4 * num_clients)))
    rng = np.random.default_rng(seed + 1)
    for _ in range(_MAX_DRAWS):
        parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        for label in np.unique(y):
            rows = np.flatnonzero(y == label)
            rng.shuffle(rows)
            shares = rng.dirichlet([alpha] * num_clients)
            cuts = (np.cumsum(shares) * len(rows)).astype(int)[:-1]
            for part, found in zip(parts, np.split(rows, cuts), strict=True):
                part.append(found)
        joined = [np.concatenate(part) for part in parts]
        sizes = [len(part) for part in joined]
        if min(sizes) >= wanted:
            return joined
    raise UsageError(
        f"partition dirichlet: after {_MAX_DRAWS} draws client {int(np.argmin(sizes))} still has {min(sizes)} samples,"
        f" fewer than {wanted}",
        hint="raise partition.alpha, or lower partition.min_samples or num_clients",
    )
