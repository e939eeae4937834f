"""Recomputed statistics against those computed directly from the layers' inputs."""

import pytest
import torch
from torch import nn

from edgeai.collab.learning.batchnorm import BatchNormPrior, batchnorm_layers, refresh_batchnorm


def tiny_net(momentum=0.1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 1),
        nn.BatchNorm2d(5, momentum=momentum),
    ).eval()


def images(num, seed=0):
    return torch.rand(num, 3, 10, 12, generator=torch.Generator().manual_seed(seed)) * 3 - 1


@pytest.mark.parametrize("momentum", [0.1, 0.37, None])
@torch.no_grad()
def test_one_batch_gives_its_own_statistics_in_every_layer(momentum):
    """Layer by layer by hand; single precision. Dropout stays off."""
    net, x = tiny_net(momentum), images(6)
    assert refresh_batchnorm(net, net, [x]) == 2
    first = net[0](x)
    mean, spread = first.mean((0, 2, 3), keepdim=True), first.var((0, 2, 3), correction=0, keepdim=True)
    assert net[1].running_mean == pytest.approx(first.mean((0, 2, 3)), abs=1e-5)
    assert net[1].running_var == pytest.approx(first.transpose(0, 1).flatten(1).var(1), rel=1e-4)
    second = net[4](((first - mean) / (spread + 1e-5).sqrt()).relu())
    assert net[5].running_mean == pytest.approx(second.mean((0, 2, 3)), abs=1e-5)
    assert net[5].running_var == pytest.approx(second.transpose(0, 1).flatten(1).var(1), rel=1e-4)


@torch.no_grad()
def test_batches_of_unequal_size_are_pooled():
    """As if the first layer had seen all images at once; the variance to the 1/(2 * 120) of the smaller batch."""
    net, x = tiny_net(), images(7)
    x[:2] += 2  # batches that differ: the mean of their variances would be too small
    refresh_batchnorm(net, net, [x[:2], x[2:]])
    first = net[0](x)
    assert net[1].running_mean == pytest.approx(first.mean((0, 2, 3)), abs=1e-5)
    assert net[1].running_var == pytest.approx(first.transpose(0, 1).flatten(1).var(1), rel=1 / 240)


@torch.no_grad()
def test_torchscript_nets_are_measured_too():
    eager, x = tiny_net(), images(6)
    scripted = torch.jit.script(tiny_net())
    assert len(batchnorm_layers(scripted)) == 2
    assert refresh_batchnorm(scripted, scripted, [x]) == refresh_batchnorm(eager, eager, [x]) == 2
    for name, value in eager.state_dict().items():
        assert torch.equal(scripted.state_dict()[name], value)
    assert torch.equal(scripted(x), eager(x))


@torch.no_grad()
def test_a_layer_that_cannot_be_measured_keeps_its_statistics():
    """A traced net has evaluation built in, and a layer may not be in use."""
    traced = torch.jit.trace(tiny_net(), images(2))
    before = {name: value.clone() for name, value in traced.state_dict().items()}
    assert refresh_batchnorm(traced, traced, [images(6)]) == 0
    unused = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])
    assert refresh_batchnorm(unused, lambda x: unused[0](x), [images(4)]) == 1
    assert unused[1].running_var.tolist() == [1.0, 1.0, 1.0]
    assert all(torch.equal(value, before[name]) for name, value in traced.state_dict().items())


def test_nothing_else_changes():
    """Neither weights nor counters nor modes; and without images nothing at all."""
    net = tiny_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert refresh_batchnorm(net, net, []) == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    refresh_batchnorm(net, net, [images(4)])
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.running_mean", "1.running_var", "5.running_mean", "5.running_var"}
    assert not any(module.training for module in net.modules())


@torch.no_grad()
def test_a_prior_counts_as_so_many_images():
    """(N old + n new) / (N + n) in mean and variance, in every layer; a large prior changes nothing."""
    net, x = tiny_net(), images(6)
    net[1].running_mean.uniform_(-1, 1)
    net[1].running_var.uniform_(0.5, 2)
    old = [net[1].running_mean.clone(), net[1].running_var.clone()]
    for num_images in (0, 3, 10**9):
        prior = BatchNormPrior(
            ((old[0], old[1]), (net[5].running_mean.clone(), net[5].running_var.clone())), num_images
        )
        refresh_batchnorm(net, net, [x[:4], x[4:]], prior=prior)
        mixed = [net[1].running_mean.clone(), net[1].running_var.clone()]
        refresh_batchnorm(net, net, [x[:4], x[4:]])
        for got, before, new in zip(mixed, old, (net[1].running_mean, net[1].running_var), strict=True):
            assert got == pytest.approx((num_images * before + 6 * new) / (num_images + 6), rel=1e-5, abs=1e-6)
