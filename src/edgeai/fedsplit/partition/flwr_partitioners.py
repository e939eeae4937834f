"""Partitions by the partitioners of flwr-datasets, which receive only labels or groups and download nothing.

The package is imported inside the functions because its import takes seconds.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import LabelsConfig, NaturalConfig, QuantityConfig, ShardsConfig
from edgeai.fedsplit.data.samples import Dataset

Rows = np.ndarray[Any, Any]
FlwrConfig = ShardsConfig | LabelsConfig | QuantityConfig | NaturalConfig


def assign_rows_with_flwr(dataset: Dataset, cfg: FlwrConfig, num_clients: int, seed: int) -> list[Rows]:
    """Return the row numbers of each client.

    Raises:
        UsageError: The partitioner cannot partition these samples with these options.
    """
    y = dataset.train.y.numpy()
    if isinstance(cfg, QuantityConfig):
        return _quantity(len(y), cfg.exponent, num_clients, seed)
    if isinstance(cfg, NaturalConfig):
        return _natural(dataset, num_clients)
    from flwr_datasets.partitioner import PathologicalPartitioner, ShardPartitioner

    if isinstance(cfg, LabelsConfig):
        if cfg.classes_per_client > dataset.num_classes:
            raise UsageError(
                f"partition.classes_per_client: {cfg.classes_per_client} of {dataset.num_classes} classes",
                hint="lower it",
            )
        # first classes round-robin, so that as many classes as possible are used
        partitioner = PathologicalPartitioner(
            num_clients, "key", cfg.classes_per_client, class_assignment_mode="first-deterministic", seed=seed + 1
        )
    else:
        num_shards = cfg.shards_per_client * num_clients
        if num_shards > len(y):
            raise UsageError(
                f"partition.shards_per_client: {num_shards} shards of {len(y)} samples", hint="lower it or num_clients"
            )
        partitioner = ShardPartitioner(num_clients, "key", cfg.shards_per_client, seed=seed + 1)
    return _rows(partitioner, y, np.arange(len(y)), num_clients, cfg.kind)


def _quantity(num: int, exponent: float, num_clients: int, seed: int) -> list[Rows]:
    """Return shuffled rows in shares proportional to 1, 2^e, 3^e, ...; the last client gets the rounding remainder."""
    from flwr_datasets.partitioner.id_to_size_fnc_partitioner import IdToSizeFncPartitioner

    order = np.random.default_rng(seed + 1).permutation(num)
    partitioner = IdToSizeFncPartitioner(num_clients, lambda numbers: numbers**exponent)
    return _rows(partitioner, np.arange(num), order, num_clients, "quantity")


def _natural(dataset: Dataset, num_clients: int) -> list[Rows]:
    """Return the rows of whole groups, assigned to clients round-robin."""
    from flwr_datasets.partitioner import GroupedNaturalIdPartitioner

    if dataset.groups is None:
        raise UsageError(
            f"partition natural: {dataset.name} has no groups, such as authors, of its samples",
            hint="name the array or column of groups in data.groups, or choose another partition",
        )
    groups = dataset.groups.numpy()
    num_groups = len(np.unique(groups))
    if num_groups < num_clients:
        raise UsageError(
            f"partition natural: client {num_groups} gets no samples: {num_groups} groups for {num_clients} clients",
            hint=f"set num_clients to {num_groups} or less",
        )
    partitioner = GroupedNaturalIdPartitioner("key", group_size=1, sort_unique_ids=True)
    by_group = _rows(partitioner, groups, np.arange(len(groups)), num_groups, "natural")
    return [np.concatenate(by_group[client::num_clients]) for client in range(num_clients)]


def _rows(partitioner: Any, key: Rows, rows: Rows, num_parts: int, kind: str) -> list[Rows]:
    """Return the rows of each part that a partitioner makes.

    Args:
        partitioner: A partitioner of flwr-datasets, which reads the column "key".
        key: Label or group of each sample.
        rows: Row number of each sample.
        num_parts: Number of parts.
        kind: Kind of the partition, for errors.
    """
    order = np.argsort(key, kind="stable")
    partitioner.dataset = _table(key[order], rows[order])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes without a client: the summary counts the unassigned samples
            return [partitioner.load_partition(part) for part in range(num_parts)]
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"partition {kind}: {reason}", hint="lower num_clients, or change the partition") from None


def _table(key: Rows, rows: Rows) -> Any:
    """Return a Hugging Face data set whose `select` returns row numbers, which saves 10 ms per client."""
    from datasets import Dataset as HfDataset

    class Table(HfDataset):
        def sort(self, *_: object, **__: object) -> Table:
            return self  # it is sorted already

        def select(self, indices: Any, *_: object, **__: object) -> Rows:
            return rows[np.asarray(indices, dtype=np.int64)]

    return Table.from_dict({"key": key})
