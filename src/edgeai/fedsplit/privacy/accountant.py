"""What DP-SGD has spent, by the library dp-accounting (Rényi differential privacy)."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from edgeai.fedsplit.privacy.noise import gaussian_epsilon


def sampled_epsilon(*, noise_multiplier: float, sampling_frac: float, num_steps: int, delta: float) -> float:
    """Returns epsilon after `num_steps` steps of DP-SGD on batches drawn by Poisson sampling.

    Neighbours differ by adding or removing one sample. Training that shuffles, as ours does, is commonly accounted
    this way although its batches are not drawn so: `shuffled_epsilon` is the bound that holds for it as it is.

    Args:
        noise_multiplier: Standard deviation of the noise over the clipping norm; 0 gives infinity.
        sampling_frac: Probability of a sample to be in a batch, 0..1.
        num_steps: Steps that saw the client's samples.
        delta: Probability with which epsilon may fail.
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
    """The library warns of each order that it leaves out; epsilon is then larger, and still right."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def shuffled_epsilon(*, noise_multiplier: float, num_epochs: int, delta: float) -> float:
    """Returns epsilon of `num_epochs` passes in each of which a sample is in one batch, without any amplification.

    A sample enters one noisy sum per pass with a norm of at most the clip, so the passes together are one Gaussian
    mechanism with sensitivity over standard deviation sqrt(num_epochs) / noise_multiplier.

    Args:
        noise_multiplier: As in `sampled_epsilon`.
        num_epochs: Passes over the client's samples.
        delta: Probability with which epsilon may fail.
    """
    if num_epochs == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    return gaussian_epsilon(math.sqrt(num_epochs) / noise_multiplier, delta)
