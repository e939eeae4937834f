"""Load the data set that a config names."""

from __future__ import annotations

from edgeai.fedsplit.config.data import (
    AudioConfig,
    CsvConfig,
    DataConfig,
    DigitsConfig,
    HfConfig,
    IdxConfig,
    ImagesConfig,
    NpzConfig,
)
from edgeai.fedsplit.data.samples import Dataset


def load_data(cfg: DataConfig) -> Dataset:
    """Read a data set, take the configured number of samples, and normalize them.

    Paths are relative to the working directory or to EDGEAI_DATA.

    Raises:
        UsageError: A file, array, column or class is missing, or a value is not a number.
        EdgeAIError: A file cannot be read.
    """
    if isinstance(cfg, DigitsConfig):
        from edgeai.fedsplit.data.digits import load_digits

        return load_digits(cfg)
    if isinstance(cfg, NpzConfig):
        from edgeai.fedsplit.data.npz import load_npz

        return load_npz(cfg)
    if isinstance(cfg, IdxConfig):
        from edgeai.fedsplit.data.idx import load_idx

        return load_idx(cfg)
    if isinstance(cfg, ImagesConfig):
        from edgeai.fedsplit.data.images import load_images

        return load_images(cfg)
    if isinstance(cfg, CsvConfig):
        from edgeai.fedsplit.data.table import load_csv

        return load_csv(cfg)
    if isinstance(cfg, AudioConfig):
        from edgeai.fedsplit.data.audio import load_audio

        return load_audio(cfg)
    assert isinstance(cfg, HfConfig)
    from edgeai.fedsplit.data.hub import load_hf

    return load_hf(cfg)
