"""Street nets: shapes, sizes, and gradients of all weights."""

import pytest
import torch

from edgeai.collab.models.street_net import StreetNet, StreetNetShape, num_parameters


@pytest.mark.parametrize("size", [(128, 192), (37, 51), (16, 16)])
def test_scores_have_the_frames_size_and_features_an_eighth(size):
    net = StreetNet(StreetNetShape(8, width=16, depth=2)).eval()
    scores, features = net(torch.randn(2, 3, *size))
    assert scores.shape == (2, 8, *size)
    assert features.shape == (2, 16, -(-size[0] // 8), -(-size[1] // 8))


def test_the_default_net_fits_the_edge():
    assert num_parameters(StreetNet(StreetNetShape(8))) <= 500_000


@pytest.mark.parametrize("separable", [True, False])
def test_every_weight_gets_a_gradient(separable):
    net = StreetNet(StreetNetShape(3, width=16, depth=4, separable=separable)).train()
    net(torch.randn(2, 3, 32, 48))[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_all_statistics_that_a_new_light_shifts_are_batchnorm():
    net = StreetNet(StreetNetShape(3, width=16, depth=1))
    convolutions = sum(isinstance(m, torch.nn.Conv2d) and m.bias is None for m in net.modules())
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()) == convolutions
