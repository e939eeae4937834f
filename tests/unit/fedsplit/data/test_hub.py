"""Hugging Face data sets, written to disk by the tests and read back; the package is imported late."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import HfConfig
from edgeai.fedsplit.data.load import load_data

PIXELS = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)


def test_pictures_in_splits(tmp_path: Path) -> None:
    import datasets
    from PIL import Image

    rows = {"image": [Image.fromarray(picture) for picture in PIXELS], "label": [5, 7, 5, 7], "by": list("abba")}
    whole = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": whole, "test": whole.select([1, 2])}).save_to_disk(str(tmp_path / "toy"))
    found = load_data(HfConfig(path=str(tmp_path / "toy"), groups="by", mean=0.0, std=1.0))
    np.testing.assert_allclose(found.train.x[:, 0].numpy(), PIXELS / 255, rtol=1e-6)
    assert found.classes == ("5", "7")
    assert found.test.y.tolist() == [1, 0]
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 1, 0]
    with pytest.raises(UsageError) as caught:
        load_data(HfConfig(path=str(tmp_path / "toy"), test="tset"))
    assert caught.value.message == f'{tmp_path / "toy"} has no "tset"'
    assert caught.value.hint == 'did you mean "test"? set data.test to one of train, test'


def test_lists_without_splits(tmp_path: Path) -> None:
    import datasets

    rows = {"tokens": [[1, 2, 3], [4, 5, 6]] * 5, "label": [0, 1] * 5}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "toy"))
    found = load_data(HfConfig(path=str(tmp_path / "toy"), x="tokens"))
    assert not found.train.x.is_floating_point()
    assert found.train.x[found.train.y == 1][0].tolist() == [4, 5, 6]
    assert (len(found.train), len(found.test)) == (8, 2)
    rows["tokens"][3] = [1, 2]
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "odd"))
    with pytest.raises(UsageError) as caught:
        load_data(HfConfig(path=str(tmp_path / "odd"), x="tokens"))
    assert caught.value.message == f'{tmp_path / "odd"}: "tokens" has the shape [3] in sample 0 and [2] in 3'


def test_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EdgeAIError, match=f"cannot read {tmp_path} as a data set: "):
        load_data(HfConfig(path=str(tmp_path)))
