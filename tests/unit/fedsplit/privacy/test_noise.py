import math

import pytest
import torch

from edgeai.fedsplit.privacy.noise import (
    draw_noise,
    gaussian_epsilon,
    generator_for,
    laplace_epsilon,
    laplace_scale,
)

NUM = 200_000


def test_laplace_has_the_moments_of_its_scale():
    noise = draw_noise(torch.Size([NUM]), "laplace", 0.5, generator_for(0)).double()
    # E|n| = b, Var = 2 b², P(|n| > b) = 1/e; standard errors at this size are below 0.5 %
    assert float(noise.abs().mean()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.var()) == pytest.approx(2 * 0.5**2, rel=0.03)
    assert float((noise.abs() > 0.5).double().mean()) == pytest.approx(math.exp(-1), rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert torch.isfinite(noise).all()


def test_gaussian_has_the_moments_of_its_scale():
    noise = draw_noise(torch.Size([NUM]), "gaussian", 0.5, generator_for(0)).double()
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float((noise.abs() > 0.5).double().mean()) == pytest.approx(0.3173, rel=0.02)


def test_streams_are_repeatable_and_unrelated():
    draw = [torch.randn(1000, generator=generator_for(*key)) for key in ((1, 2, 3), (1, 2, 3), (1, 3, 2), (1, 2, 4))]
    assert torch.equal(draw[0], draw[1])
    for other in draw[2:]:
        assert abs(float((draw[0] * other).mean())) < 0.15  # 4.7 standard errors


def test_laplace_epsilon_by_hand():
    assert laplace_epsilon(500, 1.0, 0.5) == 2000.0
    assert laplace_scale(500, 1.0, 2000.0) == 0.5


def test_laplace_likelihood_ratio_reaches_epsilon_and_never_passes_it():
    q, scale = 3, 0.7
    law = torch.distributions.Laplace(0.0, scale)
    z, other = torch.ones(q), -torch.ones(q)  # the two farthest records
    released = torch.linspace(-9, 9, 181)[:, None].expand(-1, q)
    ratio = (law.log_prob(released - z) - law.log_prob(released - other)).sum(1)
    assert float(ratio.max()) == pytest.approx(laplace_epsilon(q, 1.0, scale), rel=1e-5)


@pytest.mark.parametrize(("m", "delta"), [(0.5, 1e-5), (1.0, 1e-3), (4.0, 1e-6), (90.0, 1e-5)])
def test_gaussian_epsilon_solves_the_exact_privacy_profile(m, delta):
    epsilon = gaussian_epsilon(m, delta)
    # delta = P(loss > epsilon) - e^epsilon P(loss' > epsilon), by integration over the released value
    points = torch.linspace(-12, m + 12, 400_001, dtype=torch.float64)
    with_record = torch.distributions.Normal(m, 1.0).log_prob(points).double()
    without = torch.distributions.Normal(0.0, 1.0).log_prob(points).double()
    excess = with_record.exp() - torch.exp(epsilon + without)
    found = float(torch.trapezoid(excess.clamp_min(0.0), points))
    assert found == pytest.approx(delta, rel=1e-3)


def test_no_sensitivity_costs_nothing():
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
