"""Muon in float32: the update of torch.optim.Muon without bfloat16's rounding, and an exact restart."""

import pytest
import torch
from torch import nn

from edgeai.spec.training.muon import Float32Muon, orthogonalize

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = [(24, 24), (16, 40), (40, 16)]


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train(optimizer, matrices, seeds):
    for seed in seeds:
        for number, matrix in enumerate(matrices):
            matrix.grad = normal(matrix.shape, 100 * seed + number)
        optimizer.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_follow_the_polynomial(shape):
    """U diag(s) V^T becomes U diag(p(p(..s))) V^T, with the polynomial in float64 on the singular values alone."""
    matrix = normal(shape, 0)
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    result = orthogonalize(matrix, coefficients=COEFFICIENTS, steps=5, eps=1e-7)
    # float32 rounds to 6e-8; five iterations multiply small errors by at most 3.4445 ** 5 = 485
    torch.testing.assert_close(result.double(), u @ s.diag() @ vh, rtol=0, atol=3e-5)


def test_a_zero_matrix_stays_zero():
    zero = torch.zeros(4, 6)
    assert torch.equal(orthogonalize(zero, coefficients=COEFFICIENTS, steps=5, eps=1e-7), zero)


def test_steps_equal_torchs_within_the_rounding_of_bfloat16():
    """Three steps with momentum and weight decay. bfloat16 rounds to 0.4 %, in five iterations of three products."""
    ours, theirs = ([nn.Parameter(normal(shape, 7)) for shape in SHAPES] for _ in range(2))
    settings = {"lr": 0.1, "momentum": 0.95, "weight_decay": 0.3}
    train(Float32Muon(ours, **settings), ours, range(3))
    train(torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw"), theirs, range(3))
    for mine, other, shape in zip(ours, theirs, SHAPES, strict=True):
        moved = (other - normal(shape, 7)).norm()
        assert (mine - other).norm() < 0.01 * moved


def test_a_restart_from_the_state_is_exact():
    whole = [nn.Parameter(normal(shape, 7)) for shape in SHAPES]
    settings = {"lr": 0.1, "momentum": 0.95, "weight_decay": 0.3}
    train(Float32Muon(whole, **settings), whole, range(4))
    parts = [nn.Parameter(normal(shape, 7)) for shape in SHAPES]
    first = Float32Muon(parts, **settings)
    train(first, parts, range(2))
    second = Float32Muon(parts, **settings)
    second.load_state_dict(first.state_dict())
    train(second, parts, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_matrices_without_a_gradient_stay():
    with_grad, without = nn.Parameter(normal((4, 6), 1)), nn.Parameter(normal((4, 6), 2))
    optimizer = Float32Muon([with_grad, without], lr=0.1, momentum=0.95, weight_decay=0.3)
    with_grad.grad = normal((4, 6), 3)
    optimizer.step()
    assert torch.equal(without, normal((4, 6), 2))
    assert not torch.equal(with_grad, normal((4, 6), 1))


def test_a_closure_computes_the_gradients():
    matrix = nn.Parameter(normal((4, 6), 1))

    def closure():
        loss = matrix.square().sum()
        loss.backward()
        return loss

    loss = Float32Muon([matrix], lr=0.1, momentum=0.95, weight_decay=0.0).step(closure)
    assert loss == normal((4, 6), 1).square().sum()
    assert matrix.square().sum() < loss  # against the gradient, which is the matrix itself
