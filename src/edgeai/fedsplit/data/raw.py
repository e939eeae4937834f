"""From arrays to a data set, for all file formats: checks, split, class numbers, subset, normalization.

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
    """Samples as stored in a file."""

    x: Array
    y: Array
    """Labels of any type."""
    groups: Array | None = None
    where: str = "x"
    """Name of the samples in error messages."""


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
    """Number the classes, take a subset of the samples and normalize it; return the data set.

    Args:
        cfg: Number of samples and normalization.
        name: Name of the data set, with which error messages begin.
        train: Training samples; 8-bit inputs are scaled to 0..1, other integers are tokens.
        test: Test samples, of the same kind.
        classes: Class names if y holds class numbers from 0; None to number the sorted values of y.
        features: Names of a table's inputs.
        columns: Column that each input comes from.

    Raises:
        UsageError: Arrays do not fit together, a value is not finite, a class occurs only in test samples, or there are
            too few samples.
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
    """Split off a random share of each class as test samples; return training and test samples in their order."""
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
    """Return the rows of `num` samples in their order, classes in proportion.

    Raises:
        UsageError: There are fewer samples.
    """
    if num is None or num == len(y):
        return np.arange(len(y))
    if num > len(y):
        raise UsageError(
            f"data.{key}: {num} is more than the {len(y)} samples of {name}", hint="leave it empty for all"
        )
    return np.sort(_stratified(y, num, np.random.default_rng(seed)))


def normalised(dataset: Dataset, mean: Level, std: Level) -> Dataset:
    """Return a data set with inputs normalized, over all inputs or per channel; tokens are left unchanged.

    Args:
        dataset: Data set with images or sequences, channels first, or inputs without channels.
        mean: Mean to subtract; auto measures mean and deviation on the training samples.
        std: Deviation to divide by; a constant channel is only shifted.

    Raises:
        UsageError: The number of values does not match the number of channels.
    """
    x = dataset.train.x
    if not x.is_floating_point():
        return dataset
    axes = [axis for axis in range(x.ndim) if axis != 1 or x.ndim < 4]  # per channel for images only
    if mean == "auto" or std == "auto":
        shift, scale = x.mean(axes, keepdim=True), x.std(axes, correction=0, keepdim=True)
        scale = torch.where(scale > 0, scale, 1.0)
    else:
        shift, scale = (_level(dataset, key, level) for key, level in (("mean", mean), ("std", std)))
    train, test = (Samples((part.x - shift) / scale, part.y) for part in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test)


def no_array(where: str, name: str, known: Sequence[str], key: str) -> UsageError:
    """Return the error for a missing array or column, with the nearest existing name."""
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
    """Return training and test labels as numbers from 0, and the class names in sorted order."""
    if classes is not None:
        return train.astype(np.int64), test.astype(np.int64), tuple(classes)
    if train.ndim != 1 or test.ndim != 1:
        raise UsageError(
            f"{name}: labels have the shape {list(train.shape)}, expected one per sample", hint="see data.y_train"
        )
    train, test = _whole(train), _whole(test)
    known = np.unique(train)
    unknown = np.setdiff1d(test, known)
    if len(unknown):
        raise UsageError(
            f'{name}: class "{unknown[0]}" is in the test samples but not in the training samples',
            hint="every class needs training samples; check how the files were split",
        )
    names = tuple(str(value) for value in known)
    numbers = (np.searchsorted(known, values).astype(np.int64) for values in (train, test))
    return next(numbers), next(numbers), names


def _whole(y: Array) -> Array:
    """Return integral float labels as integers."""
    is_whole = np.issubdtype(y.dtype, np.floating) and bool((y == np.round(y)).all())
    return y.astype(np.int64) if is_whole else y


def _stratified(y: Array, num: int, rng: np.random.Generator) -> Array:
    """Return random rows of `num` samples, classes in proportion by largest remainders."""
    sizes = np.bincount(y)
    exact = sizes * num / len(y)
    wanted = np.floor(exact).astype(int)
    wanted[np.argsort(wanted - exact, kind="stable")[: num - wanted.sum()]] += 1
    return np.concatenate([rng.permutation(np.flatnonzero(y == label))[:count] for label, count in enumerate(wanted)])


def _as_inputs(x: Array) -> Tensor:
    """Return 8-bit inputs scaled to 0..1, other integers as int64 tokens, the rest as float32."""
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
            f"data.{key}: {len(values)} values for {num_channels} channels", hint="give one value, or one per channel"
        )
    return values.view(1, -1, *[1] * (x.ndim - 2)) if x.ndim > 2 else values
