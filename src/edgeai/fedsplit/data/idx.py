"""Files in the idx format of MNIST, http://yann.lecun.com/exdb/mnist: a big-endian header, then the values."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import IdxConfig
from edgeai.fedsplit.data.npz import channels_first
from edgeai.fedsplit.data.raw import Array, Raw, finish
from edgeai.fedsplit.data.samples import Dataset

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_idx(cfg: IdxConfig) -> Dataset:
    """Read the four files of a folder, plain or gzipped.

    Raises:
        UsageError: A file is missing, or is in another format.
    """
    folder = data_path(cfg.path)
    train, test = (
        Raw(
            channels_first(_read(_find(folder, cfg.prefix, splits, "images")), "auto"),
            _read(_find(folder, cfg.prefix, splits, "labels")),
            where=f"{splits[0]}-images",
        )
        for splits in (("train",), ("t10k", "test"))
    )
    return finish(cfg, folder.name, train, test)


def _find(folder: Path, prefix: str, splits: tuple[str, ...], what: str) -> Path:
    """Return the file of one split, under any of its usual names."""
    for split in splits:
        found = sorted(folder.glob(f"{prefix}{split}-{what}*idx*"))
        if found:
            return found[0]
    missing = f"{prefix}{splits[0]}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    others = sorted(path.name for path in folder.glob("*-images*idx*"))
    hint = f"set data.prefix to the text before {splits[0]} in {others[0]}" if others else "check data.path"
    raise UsageError(f"no file {missing} or {missing}.gz in {folder}", hint=hint)


def _read(path: Path) -> Array:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise EdgeAIError(f"cannot read {path}: {error}") from None
    is_idx = len(data) >= 4 and data[:2] == b"\0\0" and data[2] in _TYPES
    num_axes = data[3] if is_idx else 0
    shape = [int(size) for size in np.frombuffer(data[4 : 4 + 4 * num_axes], dtype=">u4")] if is_idx else []
    dtype = np.dtype(_TYPES[data[2]]) if is_idx else np.dtype("u1")
    if not is_idx or len(shape) != num_axes or len(data) != 4 + 4 * num_axes + dtype.itemsize * math.prod(shape):
        raise UsageError(f"{path} is not a complete idx file", hint="download it again; a gzipped file ends in .gz")
    values = np.frombuffer(data, dtype=dtype, offset=4 + 4 * num_axes).reshape(shape)
    return values.astype(dtype.newbyteorder("="))
