"""The data sets that the documentation names, if they are installed."""

from __future__ import annotations

import pytest
import torch

from edgeai.core.assets import data_path
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import AudioConfig, CsvConfig, NpzConfig
from edgeai.fedsplit.data.load import load_data

pytestmark = pytest.mark.data

ADULT = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race",
    "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _there(request: pytest.FixtureRequest) -> None:
    try:
        data_path("federated")
    except UsageError as error:
        pytest.skip(error.message)


def test_mnist() -> None:
    found = load_data(NpzConfig(path="federated/mnist.npz", mean=0.1307, std=0.3081))
    assert (len(found.train), len(found.test), found.sample_shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(found.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(found.train.x.mean().item()) < 1e-3
    assert found.train.x.std().item() == pytest.approx(1, abs=1e-3)


def test_spoken_digits() -> None:
    found = load_data(AudioConfig(path="federated/spoken_digits.npz"))
    assert (len(found.train), len(found.test), found.sample_shape) == (2_700, 300, (1, 40, 101))
    assert found.num_classes == 10
    assert found.groups is not None
    assert torch.bincount(found.groups).tolist() == [450] * 6
    assert found.train.x.isfinite().all()


def test_adult() -> None:
    found = load_data(CsvConfig(path="federated/adult.data", columns=ADULT, label="income"))
    assert len(found.train) + len(found.test) == 32_561
    assert found.classes == ("<=50K", ">50K")
    assert torch.bincount(torch.cat([found.train.y, found.test.y])).tolist() == [24_720, 7_841]
    assert len(set(found.columns)) == 14
    assert "workclass=?" in found.features
