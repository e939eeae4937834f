import torch
from torch import nn

from edgeai.fedsplit.config.privacy import FshaConfig
from edgeai.fedsplit.privacy.attacks.fsha import hijack


def points(num, seed):
    """A skewed line in 6 dimensions: matching distributions leaves one way to lay it."""
    steps = torch.rand(num, 1, generator=torch.Generator().manual_seed(seed)).clamp_min(1e-6).log()
    return -steps * torch.randn(1, 6, generator=torch.Generator().manual_seed(9))


def play(num_steps, send=lambda z: z):
    torch.manual_seed(0)
    part = nn.Linear(6, 2)
    cfg = FshaConfig(num_steps=num_steps, width=32)
    private = points(200, 1)
    found = hijack(part, private, points(300, 2), cfg, send=send, own_loss=lambda x, z: None, seed=0)
    assert found.shape == private.shape
    return float((found - private).square().mean()) / float((private - private.mean(0)).square().mean())


def test_the_hijacked_client_shows_its_inputs():
    assert play(300) < 0.3  # of the error of always answering the mean
    assert play(1) > 1.0


def test_a_client_that_sends_a_constant_shows_nothing():
    assert play(200, send=lambda z: 0.0 * z) > 0.9


def test_what_the_client_adds_is_trained_too():
    torch.manual_seed(0)
    part = nn.Linear(6, 2)
    cfg = FshaConfig(num_steps=200, width=8, lr=1e-2)
    hijack(
        part,
        points(50, 1),
        points(50, 2),
        cfg,
        send=lambda z: z,
        own_loss=lambda x, z: 100.0 * z.square().mean(),
        seed=0,
    )
    assert part(points(50, 1)).abs().mean().item() < 0.2
