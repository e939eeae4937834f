"""The handwritten digits that scikit-learn ships (UCI Optical Recognition, CC BY 4.0)."""

from __future__ import annotations

import numpy as np

from edgeai.fedsplit.config.data import DigitsConfig
from edgeai.fedsplit.data.raw import Raw, finish, split
from edgeai.fedsplit.data.samples import Dataset

_TEST_FRAC = 0.2
_SPLIT_SEED = 0  # the same test set for every run
_MAX_PIXEL = 16


def load_digits(cfg: DigitsConfig) -> Dataset:
    """Return 1,438 training and 359 test samples [1, 8, 8]."""
    from sklearn import datasets

    found = datasets.load_digits()
    x = (found.images[:, None] / _MAX_PIXEL).astype(np.float32)
    train, test = split(Raw(x, found.target, where="digits"), _TEST_FRAC, _SPLIT_SEED)
    return finish(cfg, "digits", train, test)
