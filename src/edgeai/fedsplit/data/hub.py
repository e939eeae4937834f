"""Hugging Face data sets on disk, as written by save_to_disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import HfConfig
from edgeai.fedsplit.data.npz import channels_first
from edgeai.fedsplit.data.raw import Array, Raw, finish, no_array, split
from edgeai.fedsplit.data.samples import Dataset


def load_hf(cfg: HfConfig) -> Dataset:
    """Read a data set with or without splits.

    Raises:
        UsageError: No such folder, split or column, or samples of different shapes.
        EdgeAIError: The folder is not a data set.
    """
    import datasets

    path = data_path(cfg.path)
    try:
        found = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise EdgeAIError(
            f"cannot read {path} as a data set: {str(error).splitlines()[0]}",
            hint="set data.path to a folder written by save_to_disk of the datasets package",
        ) from None
    if isinstance(found, datasets.DatasetDict):
        train = _raw(cfg, path, _split(path, found, cfg.train, "data.train"), with_groups=True)
        test = None if cfg.test is None else _raw(cfg, path, _split(path, found, cfg.test, "data.test"))
    else:
        train, test = _raw(cfg, path, found, with_groups=True), None
    if test is None:
        train, test = split(train, cfg.test_frac, cfg.pick_seed)
    return finish(cfg, path.name, train, test)


def _split(path: Path, found: Any, name: str, key: str) -> Any:
    if name not in found:
        raise no_array(str(path), name, list(found), key)
    return found[name]


def _raw(cfg: HfConfig, path: Path, table: Any, *, with_groups: bool = False) -> Raw:
    named = {"data.x": cfg.x, "data.y": cfg.y}
    if with_groups and cfg.groups is not None:
        named["data.groups"] = cfg.groups
    for key, name in named.items():
        if name not in table.column_names:
            raise no_array(str(path), name, table.column_names, key)
    groups = np.asarray(table[cfg.groups][:]) if "data.groups" in named else None
    return Raw(_inputs(path, cfg.x, table), np.asarray(table[cfg.y][:]), groups, where=cfg.x)


def _inputs(path: Path, name: str, table: Any) -> Array:
    """Return a column of images, arrays or lists as one array, images with channels first."""
    cells = [np.asarray(cell) for cell in table[name]]
    odd = next((number for number, cell in enumerate(cells) if cell.shape != cells[0].shape), None)
    if odd is not None:
        raise UsageError(
            f'{path}: "{name}" has the shape {list(cells[0].shape)} in sample 0 and {list(cells[odd].shape)} in {odd}',
            hint="give all samples the same size before saving",
        )
    x = np.stack(cells)
    if x.dtype.kind not in "uif":
        raise UsageError(
            f'{path}: "{name}" holds {x.dtype}, not numbers or images', hint="convert texts to tokens first"
        )
    return channels_first(x, "auto")
