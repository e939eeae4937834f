"""Describe a partition: the samples of each client by class, and its distance from all samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeai.fedsplit.config.data import DataConfig, PartitionConfig, VerticalPartitionConfig
from edgeai.fedsplit.data.load import load_data
from edgeai.fedsplit.data.samples import Dataset
from edgeai.fedsplit.partition.assign import assign_rows
from edgeai.fedsplit.partition.views import vertical_inputs
from edgeai.fedsplit.reports.partition_report import ClientPart, PartitionReport, PartitionSummary


def describe_partition(data: DataConfig, cfg: PartitionConfig, *, num_clients: int, seed: int) -> PartitionReport:
    """Partition a data set and describe the result.

    Args:
        data: The data set.
        cfg: The partition.
        num_clients: Number of clients.
        seed: Seed of the partition; a run with the same seed has the same partition.

    Raises:
        UsageError: The data cannot be read or partitioned in this way.
        EdgeAIError: A file cannot be read.
    """
    dataset = load_data(data)
    summary = summarize(dataset, cfg, num_clients, seed)
    return PartitionReport(dataset.name, cfg.kind, num_clients, seed, dataset.classes, dataset.sample_shape, summary)


def summarize(dataset: Dataset, cfg: PartitionConfig, num_clients: int, seed: int) -> PartitionSummary:
    """Count the samples of each client."""
    rows = assign_rows(dataset, cfg, num_clients, seed)
    inputs: Sequence[tuple[str, ...]] = [()] * num_clients
    if isinstance(cfg, VerticalPartitionConfig):
        inputs = [_input_names(dataset, cfg, part) for part in vertical_inputs(dataset, cfg, num_clients)]
    every = _counts(dataset, dataset.train.y)
    clients = []
    for client, (found, names) in enumerate(zip(rows, inputs, strict=True)):
        counts = _counts(dataset, dataset.train.y[found])
        groups: tuple[str, ...] = ()
        if dataset.groups is not None and cfg.kind == "natural":
            groups = tuple(dataset.group_names[group] for group in dataset.groups[found].unique().tolist())
        clients.append(ClientPart(client, len(found), counts, total_variation(counts, every), groups, names))
    sizes = [part.num_samples for part in clients]
    return PartitionSummary(
        clients=tuple(clients),
        num_samples=len(dataset.train),
        num_unused=len(dataset.train) - len(torch.cat(rows).unique()),
        class_counts=every,
        mean_label_distance=sum(part.label_distance * part.num_samples for part in clients) / sum(sizes),
        size_gini=gini(sizes),
    )


def total_variation(counts: Sequence[int], others: Sequence[int]) -> float:
    """Return half the sum of the absolute differences between two distributions, given by counts."""
    total, other_total = sum(counts), sum(others)
    return sum(abs(a / total - b / other_total) for a, b in zip(counts, others, strict=True)) / 2


def gini(sizes: Sequence[int]) -> float:
    """Return the Gini coefficient: the mean difference between two sizes, divided by twice the mean size."""
    weighed = sum((2 * rank - len(sizes) - 1) * size for rank, size in enumerate(sorted(sizes), 1))
    return weighed / (len(sizes) * sum(sizes))


def _counts(dataset: Dataset, y: Tensor) -> tuple[int, ...]:
    return tuple(torch.bincount(y, minlength=dataset.num_classes).tolist())


def _input_names(dataset: Dataset, cfg: VerticalPartitionConfig, places: Tensor) -> tuple[str, ...]:
    if dataset.columns:
        return tuple(dict.fromkeys(dataset.columns[place] for place in places.tolist()))
    first, last = int(places[0]), int(places[-1])
    return (f"{cfg.axis} {first} to {last}",)
