"""Oracles: a quarter turn is torch.rot90, noise statistics, and strips that together make up the whole image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import FeaturesConfig, VerticalPartitionConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.partition.assign import partition
from edgeai.fedsplit.partition.views import skew_features, vertical_inputs

PICTURES = Samples(torch.randn(20, 2, 6, 6), torch.zeros(20, dtype=torch.int64))
ROWS = Samples(torch.randn(20, 6), torch.zeros(20, dtype=torch.int64))
TABLE = replace(
    Dataset("adult", ROWS, ROWS, ("no", "yes")),
    features=("age", "job=?", "job=cook", "size", "town=bern", "town=ulm"),
    columns=("age", "job", "job", "size", "town", "town"),
)


def test_the_first_client_sees_samples_as_they_are() -> None:
    cfg = FeaturesConfig(rotate_deg=90, noise_std=1.0, contrast=2.0)
    assert torch.equal(skew_features(PICTURES, cfg, 0, 5, 0).x, PICTURES.x)
    assert torch.equal(skew_features(PICTURES, cfg, 0, 1, 0).x, PICTURES.x)


def test_a_quarter_turn_counterclockwise() -> None:
    turned = skew_features(PICTURES, FeaturesConfig(rotate_deg=90), 4, 5, 0)
    torch.testing.assert_close(turned.x, torch.rot90(PICTURES.x, 1, (2, 3)), atol=1e-4, rtol=0)
    back = skew_features(turned, FeaturesConfig(rotate_deg=-180), 2, 5, 0)  # half of the way
    torch.testing.assert_close(back.x, PICTURES.x, atol=1e-3, rtol=0)


def test_pictures_that_are_not_square_are_turned_without_being_stretched() -> None:
    x = torch.zeros(1, 1, 5, 9)
    x[0, 0, 2, 4:7] = 1  # from the middle to the right
    turned = skew_features(Samples(x, torch.zeros(1)), FeaturesConfig(rotate_deg=90), 1, 2, 0).x[0, 0]
    expected = torch.zeros(5, 9)
    expected[0:3, 4] = 1  # from the middle up
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_noise_and_contrast() -> None:
    whole = Samples(torch.randn(200, 1, 8, 8), torch.zeros(200))
    noisy = skew_features(whole, FeaturesConfig(rotate_deg=0, noise_std=2.0), 2, 5, 0)
    assert (noisy.x - whole.x).std().item() == pytest.approx(1.0, rel=0.05)  # half of 2, from 12,800 values
    other = skew_features(whole, FeaturesConfig(rotate_deg=0, noise_std=2.0), 3, 5, 0)
    assert not torch.allclose((noisy.x - whole.x) / 1.0, (other.x - whole.x) / 1.5)
    strong = skew_features(whole, FeaturesConfig(rotate_deg=0, contrast=4.0), 2, 5, 0).x
    torch.testing.assert_close(strong.mean((1, 2, 3)), whole.x.mean((1, 2, 3)))
    torch.testing.assert_close(strong.std((1, 2, 3)), 2 * whole.x.std((1, 2, 3)))  # 4 to the half


def test_what_cannot_be_turned() -> None:
    with pytest.raises(UsageError) as caught:
        skew_features(ROWS, FeaturesConfig(), 1, 2, 0)
    assert caught.value.message == "partition features: samples of shape [6] are not images and cannot be rotated"
    assert skew_features(ROWS, FeaturesConfig(rotate_deg=0, noise_std=1), 1, 2, 0).x.shape == (20, 6)


@pytest.mark.parametrize(("axis", "dim", "first"), [("rows", 2, (2, 2, 6)), ("columns", 3, (2, 6, 2))])
def test_strips_of_pictures(axis: str, dim: int, first: tuple[int, ...]) -> None:
    dataset = Dataset("toy", PICTURES, PICTURES, ("0",))
    parts = partition(dataset, VerticalPartitionConfig.model_validate({"axis": axis}), 4, 0)
    assert tuple(parts[0].x.shape[1:]) == first
    assert torch.equal(torch.cat([part.x for part in parts], dim), PICTURES.x)
    assert all(torch.equal(part.y, PICTURES.y) for part in parts)


def test_inputs_of_a_column_stay_together() -> None:
    assert [part.tolist() for part in vertical_inputs(TABLE, VerticalPartitionConfig(), 2)] == [[0, 1, 2], [3, 4, 5]]
    cfg = VerticalPartitionConfig(columns=(("town", "age"), ("job",)))
    assert [part.tolist() for part in vertical_inputs(TABLE, cfg, 2)] == [[0, 4, 5], [1, 2]]
    assert torch.equal(partition(TABLE, cfg, 2, 0)[0].x, ROWS.x[:, [0, 4, 5]])


@pytest.mark.parametrize(
    ("cfg", "num_clients", "text"),
    [
        (VerticalPartitionConfig(), 5, "partition vertical: client 4 gets no inputs: 4 columns for 5 clients"),
        (VerticalPartitionConfig(columns=(("age",),)), 2, "partition.columns: 1 lists for 2 clients"),
        (VerticalPartitionConfig(columns=(("age",), ("jobs",))), 2, 'partition.columns: no column "jobs" in adult'),
        (VerticalPartitionConfig(columns=(("age",), ())), 2, "partition.columns: client 1 gets no inputs"),
    ],
)
def test_columns_that_do_not_fit(cfg: VerticalPartitionConfig, num_clients: int, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        vertical_inputs(TABLE, cfg, num_clients)
    assert caught.value.message == text
    if "jobs" in text:
        assert caught.value.hint == 'did you mean "job"? there are age, job, size, town'


def test_rows_of_a_table() -> None:
    with pytest.raises(UsageError) as caught:
        vertical_inputs(replace(TABLE, columns=()), VerticalPartitionConfig(axis="rows"), 2)
    assert caught.value.message == "partition.axis: samples of shape [6] have no rows"
