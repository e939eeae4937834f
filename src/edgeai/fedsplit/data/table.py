"""Tables in CSV files, for split learning by columns.

A column is numeric if all its training values are numbers. Any other column is categorical: it becomes one input per
value in the training rows, and a value that occurs only in test rows sets none of them. A question mark or an empty
cell is a category too.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import CsvConfig
from edgeai.fedsplit.data.raw import Array, Raw, finish, no_array, split
from edgeai.fedsplit.data.samples import Dataset

MISSING = "?"


@dataclass(frozen=True)
class _Table:
    names: tuple[str, ...]
    rows: Array
    """[n, columns] strings."""
    where: str


def load_csv(cfg: CsvConfig) -> Dataset:
    """Read a table as samples [n, inputs].

    Raises:
        UsageError: A file or column is missing, a row has another length, or a numeric column holds other values.
        EdgeAIError: The file cannot be read.
    """
    table = _read(cfg, cfg.path)
    _expect_columns(cfg, table)
    train, test = _parts(cfg, table)
    skipped = {cfg.label, *cfg.drop, *([cfg.groups] if cfg.groups else [])}
    columns = [name for name in table.names if name not in skipped]
    if not columns:
        raise UsageError(f"{table.where} has no inputs: all columns are dropped", hint="see data.drop")
    inputs: list[tuple[Array, Array]] = []
    features: list[str] = []
    owners: list[str] = []
    for name in columns:
        values = [part.x[:, table.names.index(name)] for part in (train, test)]
        names, found = _encode(cfg, table.where, name, values[0], values[1])
        inputs.append(found)
        features += names
        owners += [name] * len(names)
    x_train, x_test = (np.concatenate([found[part] for found in inputs], axis=1) for part in (0, 1))
    return finish(
        cfg.model_copy(update={"mean": 0.0, "std": 1.0}),  # numbers are standardized already, categories stay 0 and 1
        data_path(cfg.path).stem,
        Raw(x_train, train.y, train.groups, where="the table"),
        Raw(x_test, test.y, where="the test table"),
        features=features,
        columns=owners,
    )


def _read(cfg: CsvConfig, name: str) -> _Table:
    """Read a file; its first line names the columns unless the config does."""
    path, names = data_path(name), cfg.columns
    lines = _lines(cfg, path)
    if not names and lines:
        names = tuple(lines.pop(0)[1])
    if not lines:
        raise UsageError(f"{path} has no rows", hint="check data.path")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UsageError(f'{path}: two columns are named "{twice[0]}"', hint="give unique names in data.columns")
    for line, cells in lines:
        if len(cells) != len(names):
            hint = "check data.delimiter" if len(cells) == 1 else "list all columns, in order, in data.columns"
            raise UsageError(f"{path}:{line}: {len(cells)} values for {len(names)} columns", hint=hint)
    return _Table(names, np.array([cells for _, cells in lines]), str(path))


def _lines(cfg: CsvConfig, path: Path) -> list[tuple[int, list[str]]]:
    """Return line number and values of each row that is neither empty nor a comment."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=cfg.delimiter, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EdgeAIError(f"cannot read {path}: {error}") from None
    return [(line, cells) for line, cells in rows if any(cells) and not cells[0].startswith(cfg.comment)]


def _expect_columns(cfg: CsvConfig, table: _Table) -> None:
    asked = [("data.label", cfg.label), *(("data.groups", name) for name in [cfg.groups] if name)]
    asked += [("data.drop", name) for name in cfg.drop] + [("data.categorical", name) for name in cfg.categorical]
    for key, name in asked:
        if name not in table.names:
            raise no_array(table.where, name, table.names, key)


def _parts(cfg: CsvConfig, table: _Table) -> tuple[Raw, Raw]:
    """Return training and test rows; x holds all columns as strings."""
    train = _raw(cfg, table)
    if cfg.test_path is None:
        return split(train, cfg.test_frac, cfg.pick_seed)
    test = _read(cfg, cfg.test_path)
    for name in table.names:
        if name not in test.names:
            raise UsageError(f'{test.where} has no column "{name}"', hint=f"it is in {table.where}")
    return train, _raw(cfg, _Table(table.names, test.rows[:, [test.names.index(n) for n in table.names]], test.where))


def _raw(cfg: CsvConfig, table: _Table) -> Raw:
    groups = table.rows[:, table.names.index(cfg.groups)] if cfg.groups else None
    labels = table.rows[:, table.names.index(cfg.label)]
    if cfg.label_end:
        labels = np.array([label.removesuffix(cfg.label_end) for label in labels])
    return Raw(table.rows, labels, groups, where=table.where)


def _encode(cfg: CsvConfig, where: str, name: str, train: Array, test: Array) -> tuple[list[str], tuple[Array, Array]]:
    """Return the inputs of one column: their names, and training and test values [n, inputs]."""
    numbers = None if name in cfg.categorical else _numbers(train)
    if numbers is None:
        train, test = (np.where(values == "", MISSING, values) for values in (train, test))
        values = np.unique(train)
        found = tuple((part[:, None] == values).astype(np.float32) for part in (train, test))
        return [f"{name}={value}" for value in values], (found[0], found[1])
    test_numbers = _numbers(test)
    for what, cells, part in (("", train, numbers), ("test ", test, test_numbers)):
        bad = np.arange(len(cells)) == 0 if part is None else ~np.isfinite(part)
        if part is None or bad.any():
            odd = next((cell for cell in cells if not math.isfinite(_number(cell))), "")
            raise UsageError(
                f'{where}: column "{name}" holds "{odd}" in its {what}rows, which is not a number',
                hint=f"correct it, or declare the column categorical: data.categorical=[{name}]",
            )
    assert test_numbers is not None
    mean, std = numbers.mean(), numbers.std() or 1.0
    return [name], tuple(((part - mean) / std).astype(np.float32)[:, None] for part in (numbers, test_numbers))


def _numbers(cells: Array) -> Array | None:
    try:
        return cells.astype(np.float64)
    except ValueError:
        return None


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
