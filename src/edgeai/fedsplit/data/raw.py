"""The way from arrays to a data set that all kinds of files share: split, classes, checks, a part of it, levels.

Shapes: n samples; x [n, ...], y [n].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import Level, SourceConfig
from edgeai.fedsplit.data.samples import Dataset, Samples

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Raw:
    """Samples as a file has them, and what they are called there."""

    x: Array
    y: Array
    """Labels of any type."""
    groups: Array | None = None
    where: str = "x"
    """What errors call the samples."""


def finish(
    cfg: SourceConfig,
    name: str,
    train: Raw,
    test: Raw,
    *,
    classes: Sequence[str] | None = None,
    features: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Dataset:
    """Numbers the classes, takes the asked part of the samples, and normalises it.

    Args:
        cfg: How many samples, and which levels.
        name: Of the data set; errors begin with it.
        train: 8-bit inputs count from 0 to 1; other integers are tokens.
        test: The same.
        classes: Names of the classes 0, 1, ... that y counts; by default the sorted values of y.
        features: Names of a table's inputs.
        columns: The column of each of them.

    Raises:
        UsageError: Arrays do not fit, a value is no number, a class is only in test, or too many samples are asked for.
    """
    for part in (train, test):
        _check(name, part)
    if train.x.shape[1:] != test.x.shape[1:]:
        raise UsageError(
            f"{name}: training samples have the shape {list(train.x.shape[1:])}, test samples {list(test.x.shape[1:])}"
        )
    y_train, y_test, names = _number_classes(name, train.y, test.y, classes)
    rows_train = pick(name, y_train, cfg.num_train, cfg.pick_seed, "num_train")
    rows_test = pick(name, y_test, cfg.num_test, cfg.pick_seed, "num_test")
    dataset = Dataset(
        name=name,
        train=Samples(_as_inputs(train.x[rows_train]), torch.from_numpy(y_train[rows_train])),
        test=Samples(_as_inputs(test.x[rows_test]), torch.from_numpy(y_test[rows_test])),
        classes=names,
        features=tuple(features),
        columns=tuple(columns),
    )
    if train.groups is not None:
        group_names, numbers = np.unique(train.groups[rows_train].astype(str), return_inverse=True)
        groups = torch.from_numpy(numbers.astype(np.int64))
        dataset = replace(dataset, groups=groups, group_names=tuple(group_names.tolist()))
    return normalised(dataset, cfg.mean, cfg.std)


def split(raw: Raw, test_frac: float, seed: int) -> tuple[Raw, Raw]:
    """Takes a share of each class, at random, as test samples; the rest keeps its order."""
    y = np.unique(raw.y.astype(str), return_inverse=True)[1]
    num_test = max(1, round(test_frac * len(y)))
    is_test = np.zeros(len(y), dtype=bool)
    is_test[_stratified(y, num_test, np.random.default_rng(seed))] = True
    parts = []
    for mask in (~is_test, is_test):
        groups = None if raw.groups is None else raw.groups[mask]
        parts.append(replace(raw, x=raw.x[mask], y=raw.y[mask], groups=groups))
    return parts[0], parts[1]


def pick(name: str, y: Array, num: int | None, seed: int, key: str) -> Array:
    """Rows of `num` samples, each class in its share, in their order.

    Raises:
        UsageError: There are fewer.
    """
    if num is None or num == len(y):
        return np.arange(len(y))
    if num > len(y):
        raise UsageError(f"data.{key}: {num} samples asked for, {name} has {len(y)}", hint="leave it empty to take all")
    return np.sort(_stratified(y, num, np.random.default_rng(seed)))


def normalised(dataset: Dataset, mean: Level, std: Level) -> Dataset:
    """Subtracts the mean and divides by the deviation, of all inputs or of each channel; tokens stay.

    Args:
        dataset: Its inputs are pictures or sequences with channels first, or have none.
        mean: auto measures both on the training samples.
        std: A channel that never changes is only shifted.

    Raises:
        UsageError: There are not as many values as channels.
    """
    x = dataset.train.x
    if not x.is_floating_point():
        return dataset
    axes = [axis for axis in range(x.ndim) if axis != 1 or x.ndim < 4]  # channels are told apart in pictures only
    if mean == "auto" or std == "auto":
        shift, scale = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
    else:
        shift, scale = (_level(dataset, key, level) for key, level in (("mean", mean), ("std", std)))
    train, test = (Samples((part.x - shift) / scale, part.y) for part in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test)


def no_array(where: str, name: str, known: Sequence[str], key: str) -> UsageError:
    """The error for an array or column that is not there, with the nearest that is."""
    near = nearest(name, known)
    hint = f'did you mean "{near}"? ' if near else ""
    return UsageError(f'{where} has no "{name}"', hint=f"{hint}set {key} to one of {', '.join(known)}")


def _check(name: str, raw: Raw) -> None:
    if len(raw.x) != len(raw.y):
        raise UsageError(f"{name}: {raw.where} has {len(raw.x)} samples and {len(raw.y)} labels")
    if raw.groups is not None and len(raw.groups) != len(raw.y):
        raise UsageError(f"{name}: {raw.where} has {len(raw.x)} samples and {len(raw.groups)} groups")
    if not len(raw.x):
        raise UsageError(f"{name}: {raw.where} has no samples")
    for what, values in (("", raw.x), ("labels of ", raw.y)):
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
            raise UsageError(
                f"{name}: {what}{raw.where}: {bad.sum()} samples hold NaN or infinity, first number {bad.argmax()}",
                hint="fill or remove those samples",
            )


def _number_classes(
    name: str, train: Array, test: Array, classes: Sequence[str] | None
) -> tuple[Array, Array, tuple[str, ...]]:
    """Labels of any type to numbers from 0, in sorted order."""
    if classes is not None:
        return train.astype(np.int64), test.astype(np.int64), tuple(classes)
    if train.ndim != 1 or test.ndim != 1:
        raise UsageError(
            f"{name}: labels have the shape {list(train.shape)}, expected one a sample", hint="see data.y_train"
        )
    train, test = _whole(train), _whole(test)
    known = np.unique(train)
    unknown = np.setdiff1d(test, known)
    if len(unknown):
        raise UsageError(
            f'{name}: class "{unknown[0]}" is in the test samples, but not in the training samples',
            hint="every class needs training samples; check how the files were split",
        )
    names = tuple(str(value) for value in known)
    numbers = (np.searchsorted(known, values).astype(np.int64) for values in (train, test))
    return next(numbers), next(numbers), names


def _whole(y: Array) -> Array:
    """Labels 0.0, 1.0 as 0, 1."""
    is_whole = np.issubdtype(y.dtype, np.floating) and bool((y == np.round(y)).all())
    return y.astype(np.int64) if is_whole else y


def _stratified(y: Array, num: int, rng: np.random.Generator) -> Array:
    """Rows of `num` samples: of each class its share, by the largest remainders, at random."""
    sizes = np.bincount(y)
    exact = sizes * num / len(y)
    wanted = np.floor(exact).astype(int)
    wanted[np.argsort(wanted - exact, kind="stable")[: num - wanted.sum()]] += 1
    return np.concatenate([rng.permutation(np.flatnonzero(y == label))[:count] for label, count in enumerate(wanted)])


def _as_inputs(x: Array) -> Tensor:
    """8-bit numbers to 0..1, other integers to int64 tokens, the rest to float32."""
    if x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x)).float() / 255
    if np.issubdtype(x.dtype, np.integer):
        return torch.from_numpy(x.astype(np.int64))
    return torch.from_numpy(x.astype(np.float32))


def _level(dataset: Dataset, key: str, level: Level) -> Tensor:
    x = dataset.train.x
    values = torch.tensor(level if isinstance(level, tuple) else [level], dtype=torch.float32)
    num_channels = x.shape[1] if x.ndim > 2 else 1
    if len(values) not in (1, num_channels):
        raise UsageError(
            f"data.{key}: {len(values)} values for {num_channels} channels", hint="give one value, or one a channel"
        )
    return values.view(1, -1, *[1] * (x.ndim - 2)) if x.ndim > 2 else values
