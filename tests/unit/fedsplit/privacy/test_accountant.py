import math

import pytest

from edgeai.fedsplit.privacy.accountant import sampled_epsilon, shuffled_epsilon


def renyi_epsilon(noise_multiplier: float, num_steps: int, delta: float) -> float:
    """Least epsilon over Rényi orders of composed Gaussians without sampling: RDP(a) = T a / (2 s²), converted by
    epsilon = RDP(a) + log((a - 1)/a) - (log delta + log a)/(a - 1) (Canonne et al. 2020).
    """
    found = math.inf
    for tenth in range(11, 20_000):
        order = tenth / 10
        divergence = num_steps * order / (2 * noise_multiplier**2)
        spent = divergence + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)
        found = min(found, spent)
    return found


@pytest.mark.parametrize(("noise_multiplier", "num_steps"), [(1.0, 1), (4.0, 10), (8.0, 200)])
def test_whole_batches_follow_the_closed_form(noise_multiplier, num_steps):
    found = sampled_epsilon(noise_multiplier=noise_multiplier, sampling_frac=1.0, num_steps=num_steps, delta=1e-5)
    expected = renyi_epsilon(noise_multiplier, num_steps, 1e-5)
    assert found == pytest.approx(expected, rel=0.02)  # the library tries a coarser grid of orders
    assert found >= expected * (1 - 1e-6)


def test_sampling_follows_the_binomial_sum_at_whole_orders():
    q, s, num_steps, delta = 0.01, 1.0, 1000, 1e-5
    found = sampled_epsilon(noise_multiplier=s, sampling_frac=q, num_steps=num_steps, delta=delta)
    # Mironov et al. 2019, (exp of) RDP at order a: sum over k of C(a, k) (1-q)^(a-k) q^k exp(k (k-1) / (2 s²))
    expected = math.inf
    for order in range(2, 38):
        terms = [
            math.comb(order, k) * (1 - q) ** (order - k) * q**k * math.exp(k * (k - 1) / (2 * s * s))
            for k in range(order + 1)
        ]
        divergence = num_steps * math.log(sum(terms)) / (order - 1)
        spent = divergence + math.log((order - 1) / order) - (math.log(delta) + math.log(order)) / (order - 1)
        expected = min(expected, spent)
    assert found == pytest.approx(expected, rel=0.01)  # the library tries fractional orders too


def test_sampling_amplifies():
    small = sampled_epsilon(noise_multiplier=1.0, sampling_frac=0.01, num_steps=1000, delta=1e-5)
    assert small < sampled_epsilon(noise_multiplier=1.0, sampling_frac=0.1, num_steps=1000, delta=1e-5)
    assert sampled_epsilon(noise_multiplier=1.0, sampling_frac=0.1, num_steps=0, delta=1e-5) == 0.0


def test_the_bound_for_shuffling_is_one_gaussian_and_below_renyi():
    found = shuffled_epsilon(noise_multiplier=4.0, num_epochs=10, delta=1e-5)
    assert found <= renyi_epsilon(4.0, 10, 1e-5)
    # one Gaussian with m = sqrt(10)/4: delta(epsilon) by the error function
    m = math.sqrt(10) / 4

    def phi(t: float) -> float:
        return 0.5 * math.erfc(-t / math.sqrt(2))

    delta = phi(m / 2 - found / m) - math.exp(found) * phi(-m / 2 - found / m)
    assert delta == pytest.approx(1e-5, rel=1e-6)


def test_no_noise_no_privacy():
    assert sampled_epsilon(noise_multiplier=0.0, sampling_frac=0.1, num_steps=1, delta=1e-5) == math.inf
    assert shuffled_epsilon(noise_multiplier=0.0, num_epochs=1, delta=1e-5) == math.inf
    assert shuffled_epsilon(noise_multiplier=1.0, num_epochs=0, delta=1e-5) == 0.0
