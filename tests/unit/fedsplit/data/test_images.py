"""Image folders, written by the tests and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import ImagesConfig
from edgeai.fedsplit.data.load import load_data

RNG = np.random.default_rng(0)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two splits of two classes with two gray images each."""
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for number in range(2):
                path = tmp_path / "pets" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(RNG.integers(256, size=(6, 5), dtype=np.uint8)).save(path)
    return tmp_path / "pets"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_gray_images_are_read_and_cached(tree: Path) -> None:
    cfg = ImagesConfig(path=str(tree), mean=0.0, std=1.0)
    found = load_data(cfg)
    assert found.classes == ("cat", "dog")
    assert found.train.y.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found.train.x[2, 0].numpy(), pixels(tree / "train/dog/0.png") / 255, rtol=1e-6)
    cached = list((tree.parent / "cache" / "data").iterdir())
    assert len(cached) == 2
    with np.load(next(path for path in cached if "train" in path.name)) as archive:
        changed = 255 - archive["x"]
    np.savez(next(path for path in cached if "train" in path.name), x=changed)
    assert load_data(cfg).train.x[2, 0, 0, 0] == pytest.approx(1 - found.train.x[2, 0, 0, 0].item(), abs=1e-6)
    Image.fromarray(np.zeros((6, 5), dtype=np.uint8)).save(tree / "train/dog/0.png")
    assert load_data(cfg).train.x[2].max() == 0  # a changed image is decoded again


def test_colour_and_size(tree: Path) -> None:
    Image.fromarray(RNG.integers(256, size=(9, 4, 3), dtype=np.uint8)).save(tree / "train/cat/0.png")
    found = load_data(ImagesConfig(path=str(tree), height=6, width=5, mean=0.0, std=1.0))
    assert found.sample_shape == (3, 6, 5)
    grey = found.train.x[1]
    assert (grey[0] == grey[1]).all()
    assert load_data(ImagesConfig(path=str(tree), colour="grey", height=6, width=5)).sample_shape == (1, 6, 5)


def test_one_split_alone(tree: Path) -> None:
    cfg = ImagesConfig(path=str(tree / "train"), train="", test=None, test_frac=0.5)
    assert (len(load_data(cfg).train), len(load_data(cfg).test)) == (2, 2)


def test_folders_that_cannot_be_used(tree: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(ImagesConfig(path=str(tree), test="val"))
    assert caught.value.message == f"no folder {tree / 'val'}"
    assert caught.value.hint == "set data.train and data.test; there are test, train"
    with pytest.raises(UsageError) as caught:
        load_data(ImagesConfig(path=str(tree / "train"), train="cat"))
    assert caught.value.message == f"no class folders in {tree / 'train' / 'cat'}"
    (tree / "train" / "emu").mkdir()
    with pytest.raises(UsageError) as caught:
        load_data(ImagesConfig(path=str(tree)))
    assert caught.value.message == f"no images in {tree / 'train' / 'emu'}"
    (tree / "train" / "emu" / "0.png").write_bytes(b"no picture")
    with pytest.raises(EdgeAIError, match=r"cannot read the image .*emu/0\.png: "):
        load_data(ImagesConfig(path=str(tree)))
