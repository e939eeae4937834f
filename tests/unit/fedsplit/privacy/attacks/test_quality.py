import math

import pytest
import torch

from edgeai.fedsplit.privacy.attacks.quality import compare


def test_known_errors():
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    found = compare(x, x + 0.5, dcor_batch=8)
    assert found.mse == pytest.approx(0.25)
    assert found.mse_of_mean == pytest.approx((1.0 + 4.0) / 2)
    assert found.psnr_db == pytest.approx(10 * math.log10(4.0**2 / 0.25))
    assert found.ssim is None
    assert found.dcor == pytest.approx(1.0, abs=1e-6)


def test_a_perfect_reconstruction_of_pictures():
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = compare(x, x, dcor_batch=8)
    assert found.mse == 0.0
    assert found.psnr_db == math.inf
    assert found.ssim == pytest.approx(1.0)


def test_ssim_of_a_flat_picture_follows_the_formula():
    x = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0)).double()
    flat = torch.full_like(x, 0.5)
    found = compare(x, flat, dcor_batch=8)
    peak = float(x.max() - x.min())
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []  # one window covers the whole image; the covariance with a constant is 0
    for one in x:
        mean, var = float(one.mean()), float(one.var())
        values.append((2 * mean * 0.5 + c1) / (mean**2 + 0.25 + c1) * c2 / (var + c2))
    assert found.ssim == pytest.approx(sum(values) / 2, rel=1e-3)


def test_tiny_pictures_have_no_ssim():
    x = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert compare(x, x, dcor_batch=8).ssim is None
    small = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert compare(small, small, dcor_batch=8).ssim == pytest.approx(1.0)


def test_correlation_is_blind_to_scale_and_offset_only():
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    other = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    expected = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(x, other, strict=True)]
    assert compare(x, other, dcor_batch=8).correlation == pytest.approx(sum(expected) / 4, abs=1e-5)
    assert compare(x, 3.0 * x - 7.0, dcor_batch=8).correlation == pytest.approx(1.0, abs=1e-5)
    assert compare(x, 0.0 * x, dcor_batch=8).correlation == 0.0
