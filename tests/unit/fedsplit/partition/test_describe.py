"""Oracles: distances and Gini coefficients of small cases by hand."""

from __future__ import annotations

import pytest
import torch

from edgeai.fedsplit.config.data import LabelsConfig, NaturalConfig, VerticalPartitionConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.partition.describe import gini, summarize, total_variation

TRAIN = Samples(torch.randn(8, 1, 4, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
DATASET = Dataset(
    "toy", TRAIN, TRAIN, ("a", "b", "c"), groups=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), group_names=("ann", "bob")
)


def test_total_variation() -> None:
    assert total_variation([5, 5], [1, 1]) == 0
    assert total_variation([3, 0], [0, 8]) == 1
    assert total_variation([4, 0, 0], [4, 2, 2]) == pytest.approx(0.5)


def test_gini() -> None:
    assert gini([7, 7, 7]) == 0
    assert gini([0, 0, 0, 12]) == pytest.approx(0.75)
    assert gini([3, 1]) == pytest.approx(2 * 2 / (2 * 4 * 2))  # mean |difference| 1 over twice the mean 2


def test_summary_of_a_natural_partition() -> None:
    found = summarize(DATASET, NaturalConfig(), 2, 0)
    assert [part.class_counts for part in found.clients] == [(4, 0, 0), (0, 2, 2)]
    assert [part.label_distance for part in found.clients] == [0.5, 0.5]
    assert [part.groups for part in found.clients] == [("ann",), ("bob",)]
    assert (found.num_samples, found.num_unused, found.class_counts) == (8, 0, (4, 2, 2))
    assert (found.mean_label_distance, found.size_gini) == (0.5, 0.0)


def test_samples_that_no_client_holds_are_counted() -> None:
    found = summarize(DATASET, LabelsConfig(classes_per_client=1), 2, 0)
    assert [part.class_counts for part in found.clients] == [(4, 0, 0), (0, 2, 0)]  # classes 0 and 1 in turn
    assert found.num_unused == 2


def test_vertical_parts_name_their_inputs() -> None:
    found = summarize(DATASET, VerticalPartitionConfig(axis="rows"), 2, 0)
    assert [part.inputs for part in found.clients] == [("rows 0 to 1",), ("rows 2 to 3",)]
    assert [part.num_samples for part in found.clients] == [8, 8]
    assert found.num_unused == 0
