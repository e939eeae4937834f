"""Randomised top-k: its two ends, and the counts it promises."""

import torch

from edgeai.fedsplit.config.codec import RandtopkConfig
from edgeai.fedsplit.protocol.codec.randtopk import RandTopK


def _select(alpha: float, *, k: int, num_values: int, num_samples: int = 2000) -> torch.Tensor:
    """Kept places [b, k] of samples whose values fall from place to place, so that the top is 0 … k - 1."""
    x = torch.arange(num_values, 0, -1.0).repeat(num_samples, 1)
    return RandTopK(RandtopkConfig(k=k, alpha=alpha)).select(x, torch.Generator().manual_seed(0))


def test_alpha_zero_is_top_k() -> None:
    assert (_select(0.0, k=5, num_values=20).sort(dim=1).values == torch.arange(5)).all()


def test_alpha_one_takes_only_the_rest() -> None:
    assert (_select(1.0, k=5, num_values=20) >= 5).all()


def test_no_place_twice() -> None:
    places = _select(0.5, k=5, num_values=20).sort(dim=1).values
    assert (places[:, 1:] > places[:, :-1]).all()


def test_share_of_the_rest_is_alpha_and_even_within() -> None:
    places = _select(0.3, k=5, num_values=20)
    counts = torch.bincount(places.flatten(), minlength=20).double() / 2000  # chance of each place to be kept
    # top: 5 places share 5 * 0.7 of 5 draws; rest: 15 places share 5 * 0.3; five deviations of a chance over 2,000
    assert ((counts[:5] - 0.7).abs() < 5 * (0.7 * 0.3 / 2000) ** 0.5).all()
    assert ((counts[5:] - 0.1).abs() < 5 * (0.1 * 0.9 / 2000) ** 0.5).all()


def test_a_rest_too_small_is_used_up() -> None:
    places = _select(1.0, k=5, num_values=7)
    assert ((places >= 5).sum(dim=1) == 2).all()
