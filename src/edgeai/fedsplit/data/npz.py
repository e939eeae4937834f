"""Samples from a NumPy archive, such as mnist.npz."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import NpzConfig
from edgeai.fedsplit.data.raw import Array, Raw, finish, no_array, split
from edgeai.fedsplit.data.samples import Dataset

_NUM_CHANNELS = (1, 3, 4)


def load_npz(cfg: NpzConfig) -> Dataset:
    """Read the arrays x_train, y_train, x_test and y_test, under the names in the config.

    Raises:
        UsageError: There is no such file or array, or the arrays do not fit together.
        EdgeAIError: The file cannot be read.
    """
    path = data_path(cfg.path)
    named = {"x_train": cfg.x_train, "y_train": cfg.y_train, "groups": cfg.groups}
    if cfg.x_test is not None:
        named |= {"x_test": cfg.x_test, "y_test": cfg.y_test or cfg.y_train}
    found = read_arrays(path, {key: name for key, name in named.items() if name is not None})
    x = channels_first(found["x_train"], cfg.channels)
    train = Raw(x, found["y_train"], found.get("groups"), where=cfg.x_train)
    if cfg.x_test is None:
        train, test = split(train, cfg.test_frac, cfg.pick_seed)
    else:
        test = Raw(channels_first(found["x_test"], cfg.channels), found["y_test"], where=cfg.x_test)
    return finish(cfg, path.stem, train, test)


def read_arrays(path: Path, named: dict[str, str]) -> dict[str, Array]:
    """Read arrays of a NumPy archive.

    Args:
        path: The archive.
        named: Array names by config key.

    Returns:
        Arrays by config key.

    Raises:
        UsageError: An array is missing or holds Python objects.
        EdgeAIError: The file is not an archive.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key, name in named.items():
                if name not in archive.files:
                    raise no_array(str(path), name, archive.files, f"data.{key}")
            return {key: archive[name] for key, name in named.items()}
    except (OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:  # AttributeError: a single array, .npy
        raise EdgeAIError(f"cannot read {path} as a NumPy archive: {_first_line(error)}") from None
    except ValueError as error:
        raise UsageError(
            f"{path}: {_first_line(error)}", hint="save arrays of numbers or strings, not of objects"
        ) from None


def channels_first(x: Array, channels: str) -> Array:
    """Move the channels of images to the first axis of a sample.

    Args:
        x: Images [n, H, W], [n, H, W, C] or [n, C, H, W], or other arrays.
        channels: Position of the channels: auto, first, last, or none if samples are not images.

    Returns:
        [n, C, H, W]; arrays that are not images are returned unchanged.
    """
    if channels == "auto":
        channels = _guess(x.shape) if x.dtype == np.uint8 else "none"
    if channels == "none":
        return x
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, -1, 1) if channels == "last" else x


def _guess(shape: Sequence[int]) -> str:
    if len(shape) == 3:
        return "first"
    return "last" if len(shape) == 4 and shape[-1] in _NUM_CHANNELS and shape[1] not in _NUM_CHANNELS else "none"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
