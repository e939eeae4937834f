import math

import numpy as np
import pytest
import torch

from edgeai.fedsplit.privacy.dcor import distance_correlation, mean_distance_correlation


def naive_dcor(x: np.ndarray, z: np.ndarray, power: float) -> float:
    """The definition, written out: |x_i - x_j|^power, doubly centered, by loops."""
    n = len(x)

    def centred(samples: np.ndarray) -> np.ndarray:
        a = np.array([[math.dist(samples[i], samples[j]) ** power for j in range(n)] for i in range(n)])
        out = np.empty_like(a)
        for i in range(n):
            for j in range(n):
                out[i, j] = a[i, j] - a[i].mean() - a[:, j].mean() + a.mean()
        return out

    a, b = centred(x), centred(z)
    return math.sqrt((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))


@pytest.mark.parametrize(("distances", "power"), [("euclidean", 1.0), ("squared", 2.0)])
def test_equals_the_definition(distances, power):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 5, generator=generator, dtype=torch.float64)
    z = x[:, :3].tanh() + 0.5 * torch.randn(23, 3, generator=generator, dtype=torch.float64)
    expected = naive_dcor(x.numpy(), z.numpy(), power)
    assert float(distance_correlation(x, z, distances=distances)) == pytest.approx(expected, rel=1e-9)
    single = float(distance_correlation(x.float(), z.float(), distances=distances))
    assert single == pytest.approx(expected, rel=1e-4)  # float32 distances


def test_squared_is_the_root_of_the_rv_coefficient():
    generator = torch.Generator().manual_seed(1)
    x, z = torch.randn(40, 6, generator=generator), torch.randn(40, 4, generator=generator)
    gram_x, gram_z = ((s - s.mean(0)) @ (s - s.mean(0)).T for s in (x, z))
    expected = math.sqrt(float((gram_x * gram_z).sum() / (gram_x.norm() * gram_z.norm())))
    assert float(distance_correlation(x, z, distances="squared")) == pytest.approx(expected, rel=1e-4)


def test_similarity_maps_keep_it_at_one():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(30, 2, 4, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
    assert float(distance_correlation(x, x)) == pytest.approx(1.0, abs=1e-6)
    assert float(distance_correlation(x, 3.0 * x.flatten(1) @ turn - 7.0)) == pytest.approx(1.0, abs=1e-4)


def test_sees_what_squared_distances_do_not():
    x = torch.linspace(-1.0, 1.0, 201)[:, None]  # symmetric, so x and x² are uncorrelated
    assert float(distance_correlation(x, x.square(), distances="squared")) == pytest.approx(0.0, abs=1e-2)
    assert float(distance_correlation(x, x.square())) > 0.4


def test_gradient_against_differences():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    z = torch.randn(7, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: distance_correlation(x, z), [z])
    assert torch.autograd.gradcheck(lambda z: distance_correlation(x, z, distances="squared"), [z])


@pytest.mark.parametrize("distances", ["euclidean", "squared"])
def test_constant_and_repeated_samples_give_finite_gradients(distances):
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    constant = torch.full((6, 2), 3.7, requires_grad=True)
    value = distance_correlation(x, constant, distances=distances)
    value.backward()
    assert value.item() == 0.0
    assert torch.isfinite(constant.grad).all()
    twice = torch.cat([x[:3], x[:3]]).requires_grad_(True)
    distance_correlation(x, twice, distances=distances).backward()
    assert torch.isfinite(twice.grad).all()


def test_mean_leaves_a_short_rest_out():
    generator = torch.Generator().manual_seed(5)
    x, z = torch.randn(25, 3, generator=generator), torch.randn(25, 3, generator=generator)
    expected = (distance_correlation(x[:10], z[:10]) + distance_correlation(x[10:20], z[10:20])) / 2
    assert mean_distance_correlation(x, z, batch=10) == pytest.approx(float(expected))
    assert mean_distance_correlation(x, z, batch=99) == pytest.approx(float(distance_correlation(x, z)))
