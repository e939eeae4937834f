"""b-bit quantisation: levels, bias, exactness."""

import pytest
import torch

from edgeai.fedsplit.protocol.codec.uniform import Uniform


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mean_error(*, stochastic: bool) -> tuple[float, float]:
    """Largest error of the mean over 4,000 roundings of the same 64 values, and the step between levels."""
    row = torch.linspace(0.0, 1.0, 64)
    codec = Uniform(bits=4, per_channel=False, stochastic=stochastic)
    x = row.repeat(4000, 1)
    arrived = codec.unpack(codec.pack(x, _chance()))
    return float((arrived.double().mean(dim=0) - row).abs().max()), 1 / 15


def test_stochastic_rounding_is_unbiased() -> None:
    error, step = _mean_error(stochastic=True)
    sigma = step / 2 / 4000**0.5  # a rounding has a deviation of half a step at most
    assert error < 5 * sigma  # 64 values: chance of a false alarm below 4e-5


def test_rounding_to_the_nearest_is_biased_and_closer() -> None:
    error, step = _mean_error(stochastic=False)
    assert 5 * step / 2 / 4000**0.5 < error <= step / 2 + 1e-6


def test_levels_by_hand() -> None:
    x = torch.tensor([[0.0, 0.4, 1.4, 1.6, 3.0]])
    codec = Uniform(bits=2, per_channel=False, stochastic=False)
    packed = codec.pack(x, _chance())
    assert packed.payload.tolist() == [0b10010000, 0b11]  # codes 0 0 1 2 3, the first in the lowest bits
    assert packed.side["range"].tolist() == [[0.0, 1.0]]
    assert codec.unpack(packed).tolist() == [[0.0, 0.0, 1.0, 2.0, 3.0]]


@pytest.mark.parametrize("stochastic", [True, False])
def test_values_on_the_levels_come_back_exactly(stochastic: bool) -> None:
    x = torch.randint(0, 256, (8, 3, 5), generator=_chance()).float() - 128
    x[0, 0, 0], x[0, 0, 1] = -128, 127
    codec = Uniform(bits=8, per_channel=False, stochastic=stochastic)
    assert torch.equal(codec.unpack(codec.pack(x, _chance(1))), x)


def test_each_channel_has_its_own_range() -> None:
    x = torch.stack([torch.tensor([[0.0, 3.0], [1.0, 2.0]]), torch.tensor([[300.0, 0.0], [100.0, 200.0]])], dim=1)
    codec = Uniform(bits=2, per_channel=True, stochastic=True)
    packed = codec.pack(x, _chance())
    assert packed.side["range"].tolist() == [[0.0, 1.0], [0.0, 100.0]]
    assert torch.equal(codec.unpack(packed), x)


def test_a_constant_tensor_comes_back_exactly() -> None:
    x = torch.full((3, 4), 0.7)
    codec = Uniform(bits=3, per_channel=False, stochastic=True)
    assert torch.equal(codec.unpack(codec.pack(x, _chance())), x)


def test_an_error_is_below_one_step() -> None:
    x = torch.randn(16, 33, generator=_chance())
    codec = Uniform(bits=11, per_channel=False, stochastic=True)
    step = float(x.max() - x.min()) / 2047
    assert float((codec.unpack(codec.pack(x, _chance(1))) - x).abs().max()) < step * 1.001  # float32 in the scaling


def test_not_a_number_stays_visible() -> None:
    x = torch.tensor([[1.0, float("nan"), 2.0]])
    codec = Uniform(bits=8, per_channel=False, stochastic=True)
    assert codec.unpack(codec.pack(x, _chance())).isnan().all()
