"""Digits, NumPy archives and idx files, written by the tests and read back."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import DigitsConfig, IdxConfig, NpzConfig
from edgeai.fedsplit.data.load import load_data

PIXELS = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
LABELS = np.array([0, 1, 0, 1], dtype=np.uint8)


def test_digits_are_split_once_and_for_all() -> None:
    found = load_data(DigitsConfig(mean=0.0, std=1.0))
    assert (len(found.train), len(found.test), found.sample_shape) == (1438, 359, (1, 8, 8))
    theirs = sklearn_datasets.load_digits()
    share = np.bincount(found.test.y) / np.bincount(theirs.target)
    assert np.abs(share - 0.2).max() < 0.01
    assert found.train.x.max() == found.test.x.max() == 1
    total = found.train.x.sum() + found.test.x.sum()
    assert total.item() == pytest.approx(theirs.images.sum() / 16)
    again = load_data(DigitsConfig(mean=0.0, std=1.0, pick_seed=5))
    assert again.test.y.tolist() == found.test.y.tolist()
    assert len(load_data(DigitsConfig(num_train=100, num_test=20)).train) == 100


def test_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(
        tmp_path / "toy.npz", x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:2], y_test=LABELS[:2], who=list("abba")
    )
    monkeypatch.setenv("EDGEAI_DATA", str(tmp_path))
    found = load_data(NpzConfig(path="toy.npz", groups="who", mean=0.0, std=1.0))
    assert found.name == "toy"
    assert found.sample_shape == (1, 3, 2)
    np.testing.assert_allclose(found.train.x[:, 0].numpy(), PIXELS / 255, rtol=1e-6)
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 1, 0]


def test_npz_without_test_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", data=np.eye(10, dtype=np.float32), target=np.arange(10) % 2)
    cfg = NpzConfig(path=str(tmp_path / "toy.npz"), x_train="data", y_train="target", x_test=None, mean=0.0, std=1.0)
    found = load_data(cfg)
    assert (len(found.train), len(found.test)) == (8, 2)
    assert found.test.y.sort().values.tolist() == [0, 1]
    rows = sorted([*found.train.x.argmax(1).tolist(), *found.test.x.argmax(1).tolist()])
    assert rows == list(range(10))


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((4, 5, 6, 3), "auto", (3, 5, 6)),
        ((4, 3, 5, 6), "auto", (3, 5, 6)),
        ((4, 5, 6), "none", (5, 6)),
        ((4, 5, 6, 2), "last", (2, 5, 6)),
    ],
)
def test_where_channels_are(tmp_path: Path, shape: tuple[int, ...], channels: str, expected: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez(tmp_path / "toy.npz", x_train=x, y_train=LABELS, x_test=x, y_test=LABELS)
    cfg = NpzConfig.model_validate({"path": str(tmp_path / "toy.npz"), "channels": channels, "mean": 0, "std": 1})
    found = load_data(cfg)
    assert found.sample_shape == expected
    last = x[-1].transpose(2, 0, 1) if shape[-1] < 4 and x.ndim == 4 else x[-1]
    np.testing.assert_allclose(found.train.x[-1].numpy(), last / 255, rtol=1e-6)


def test_npz_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "toy.npz"
    np.savez(path, x_train=PIXELS, y_trian=LABELS, x_test=PIXELS, y_test=LABELS)
    with pytest.raises(UsageError) as caught:
        load_data(NpzConfig(path=str(path)))
    assert caught.value.message == f'{path} has no "y_train"'
    assert caught.value.hint == 'did you mean "y_trian"? set data.y_train to one of x_train, y_trian, x_test, y_test'
    with pytest.raises(UsageError) as caught:
        load_data(NpzConfig(path=str(tmp_path / "none.npz")))
    assert caught.value.message.startswith(f"no data at {tmp_path / 'none.npz'}")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EdgeAIError, match=r"cannot read .*toy\.npz as a NumPy archive: "):
        load_data(NpzConfig(path=str(path)))


def _write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    data = head + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_idx_packed_and_not(tmp_path: Path) -> None:
    _write_idx(tmp_path / "train-images-idx3-ubyte", PIXELS)
    _write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS)
    _write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", PIXELS[2:])
    _write_idx(tmp_path / "t10k-labels-idx1-ubyte", LABELS[2:])
    found = load_data(IdxConfig(path=str(tmp_path), mean=0.0, std=1.0))
    np.testing.assert_allclose(found.train.x[:, 0].numpy(), PIXELS / 255, rtol=1e-6)
    np.testing.assert_allclose(found.test.x[:, 0].numpy(), PIXELS[2:] / 255, rtol=1e-6)
    assert found.test.y.tolist() == [0, 1]
    with pytest.raises(UsageError) as caught:
        load_data(IdxConfig(path=str(tmp_path), prefix="emnist-"))
    name = "emnist-train-images-idx3-ubyte"
    assert caught.value.message == f"no file {name} or {name}.gz in {tmp_path}"
    short = tmp_path / "train-images-idx3-ubyte"
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(UsageError) as caught:
        load_data(IdxConfig(path=str(tmp_path)))
    assert caught.value.message == f"{short} is not a complete idx file"
