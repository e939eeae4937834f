"""Oracles: counts and means by hand, NumPy's own statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import DigitsConfig, Level
from edgeai.fedsplit.data.raw import Raw, finish, pick, split
from edgeai.fedsplit.data.samples import Dataset

PLAIN = DigitsConfig(mean=0.0, std=1.0)


def raw(y: list[object], shape: tuple[int, ...] = (2,)) -> Raw:
    x = np.arange(len(y) * int(np.prod(shape)), dtype=np.float32).reshape(len(y), *shape)
    return Raw(x, np.array(y))


def data(cfg: DigitsConfig, train: Raw, test: Raw) -> Dataset:
    return finish(cfg, "toy", train, test)


def test_labels_of_any_type_become_numbers() -> None:
    found = data(PLAIN, raw(["cat", "ant", "dog", "ant"]), raw(["dog", "ant"]))
    assert found.classes == ("ant", "cat", "dog")
    assert found.train.y.tolist() == [1, 0, 2, 0]
    assert found.test.y.tolist() == [2, 0]
    assert data(PLAIN, raw([3.0, 7.0]), raw([7.0])).classes == ("3", "7")


def test_class_that_is_only_in_test() -> None:
    with pytest.raises(UsageError) as caught:
        data(PLAIN, raw([0, 1]), raw([0, 7]))
    assert caught.value.message == 'toy: class "7" is in the test samples but not in the training samples'


def test_limits_keep_the_shares_of_classes_and_the_order() -> None:
    y = np.array([0] * 60 + [1] * 30 + [2] * 10)
    rows = pick("toy", y, 20, 0, "num_train")
    assert np.bincount(y[rows]).tolist() == [12, 6, 2]
    assert sorted(rows) == rows.tolist()
    assert len(set(rows)) == 20
    assert rows.tolist() == pick("toy", y, 20, 0, "num_train").tolist()
    assert rows.tolist() != pick("toy", y, 20, 1, "num_train").tolist()
    # exactly 3, 1.5 and 0.5: the first of equal remainders
    assert np.bincount(y[pick("toy", y, 5, 0, "num_train")], minlength=3).tolist() == [3, 2, 0]
    with pytest.raises(UsageError) as caught:
        pick("toy", y, 101, 0, "num_train")
    assert caught.value.message == "data.num_train: 101 is more than the 100 samples of toy"


def test_split_takes_a_share_of_each_class() -> None:
    whole = replace(raw(list("aabb" * 5)), groups=np.arange(20))
    train, test = split(whole, 0.2, 0)
    assert sorted(test.y.tolist()) == list("aabb")
    assert train.groups is not None
    assert test.groups is not None
    assert sorted([*train.groups, *test.groups]) == list(range(20))
    assert train.x[:, 0].tolist() == (2 * train.groups).tolist()


def test_levels_are_measured_on_the_training_samples() -> None:
    generator = np.random.default_rng(0)
    train = Raw(generator.normal(5, 3, (50, 2, 4, 4)).astype(np.float32), np.arange(50) % 2)
    test = Raw(generator.normal(5, 3, (9, 2, 4, 4)).astype(np.float32), np.arange(9) % 2)
    found = data(DigitsConfig(), train, test)
    mean, std = train.x.mean((0, 2, 3), keepdims=True), train.x.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(found.test.x.numpy(), (test.x - mean) / std, rtol=1e-4, atol=1e-5)
    assert found.train.x.mean((0, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ((0.5,), (0.25,)), ((0.5, 0.5), (0.25, 0.25))])
def test_given_levels(mean: Level, std: Level) -> None:
    pixels = Raw(np.array([[[[0]], [[255]]]], dtype=np.uint8), np.array([0]))
    found = data(DigitsConfig(mean=mean, std=std), pixels, pixels)
    assert found.train.x.flatten().tolist() == [-2.0, 2.0]


def test_levels_for_other_channels() -> None:
    with pytest.raises(UsageError) as caught:
        data(DigitsConfig(mean=(0.0,) * 3, std=(1.0,) * 3), raw([0], (1, 2, 2)), raw([0], (1, 2, 2)))
    assert caught.value.message == "data.mean: 3 values for 1 channels"


def test_constant_channels_and_tokens_stay() -> None:
    flat = Raw(np.full((3, 1, 2, 2), 0.5, dtype=np.float32), np.array([0, 1, 0]))
    assert data(DigitsConfig(), flat, flat).train.x.abs().max() == 0
    tokens = Raw(np.array([[3, 4], [5, 6]], dtype=np.int32), np.array([0, 1]))
    found = data(DigitsConfig(), tokens, tokens).train.x
    assert found.dtype == torch.int64
    assert found.tolist() == [[3, 4], [5, 6]]


def test_groups_follow_the_picked_samples() -> None:
    whole = replace(raw([0, 1] * 10), groups=np.array(["zoe", "ann"] * 10))
    found = data(DigitsConfig(num_train=6, mean=0.0, std=1.0), whole, raw([0, 1]))
    assert found.group_names == ("ann", "zoe")
    assert found.groups is not None
    assert found.groups.tolist() == (1 - found.train.y).tolist()


@pytest.mark.parametrize(
    ("train", "text"),
    [
        (Raw(np.array([[0.0], [np.nan], [np.inf]]), np.array([0, 1, 1]), where="x_train"),
         "toy: x_train: 2 samples hold NaN or infinity, first number 1"),
        (Raw(np.zeros((2, 1)), np.array([0.0, np.nan]), where="x_train"),
         "toy: labels of x_train: 1 samples hold NaN or infinity, first number 1"),
        (Raw(np.zeros((2, 1)), np.array([0]), where="x_train"), "toy: x_train has 2 samples and 1 labels"),
        (Raw(np.zeros((0, 1)), np.array([]), where="x_train"), "toy: x_train has no samples"),
        (Raw(np.zeros((1, 2)), np.array([0])), "toy: training samples have the shape [2], test samples [1]"),
        (Raw(np.zeros((1, 1)), np.array([[0, 1]])), "toy: labels have the shape [1, 2], expected one per sample"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(train: Raw, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        data(PLAIN, train, Raw(np.zeros((1, 1)), np.array([0])))
    assert caught.value.message == text


def test_levels_are_both_given_or_both_measured() -> None:
    with pytest.raises(ValueError, match="mean and std must both be auto or both be given"):
        DigitsConfig(mean=0.5)
    with pytest.raises(ValueError, match="std must be positive"):
        DigitsConfig(mean=0.5, std=0.0)
