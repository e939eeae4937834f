"""Epsilon of DP-SGD, computed by dp-accounting (Rényi differential privacy)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from edgeai.fedsplit.privacy.noise import gaussian_epsilon


def sampled_epsilon(*, noise_multiplier: float, sampling_frac: float, num_steps: int, delta: float) -> float:
    """Return epsilon after `num_steps` steps of DP-SGD on batches drawn by Poisson sampling.

    Neighboring data sets differ by one added or removed sample. Training with shuffled batches, as here, is commonly
    accounted this way although it does not sample so; `shuffled_epsilon` is a bound that holds for shuffled batches.

    Args:
        noise_multiplier: Standard deviation of the noise divided by the clipping norm; 0 gives infinity.
        sampling_frac: Probability that a sample is in a batch, 0..1.
        num_steps: Number of steps on the client's samples.
        delta: Probability that the bound fails.
    """
    if num_steps == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    import dp_accounting  # takes seconds to import

    step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling_frac < 1.0:
        step = dp_accounting.PoissonSampledDpEvent(sampling_frac, step)
    accountant = dp_accounting.rdp.RdpAccountant()
    with _without_warnings():
        accountant.compose(step, num_steps)
        return float(accountant.get_epsilon(delta))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence the library's warnings about skipped orders, which make epsilon larger but still valid."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def shuffled_epsilon(*, noise_multiplier: float, num_epochs: int, delta: float) -> float:
    """Return epsilon of `num_epochs` epochs with each sample in one batch per epoch, without amplification.

    A sample enters one noisy sum per epoch with a norm of at most the clip, so all epochs together are one Gaussian
    mechanism whose sensitivity divided by the standard deviation is sqrt(num_epochs) / noise_multiplier.

    Args:
        noise_multiplier: Standard deviation of the noise divided by the clipping norm; 0 gives infinity.
        num_epochs: Number of epochs over the client's samples.
        delta: Probability that the bound fails.
    """
    if num_epochs == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    return gaussian_epsilon(math.sqrt(num_epochs) / noise_multiplier, delta)
