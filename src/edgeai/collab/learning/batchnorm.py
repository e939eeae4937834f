"""Recomputation of BatchNorm statistics on recent images: adaptation to new lighting without labels.

Shapes: B images, H x W pixels.

Source: adaptive BatchNorm (Li et al., arXiv 1603.04779). Differs from averaging running statistics: batches are
pooled, so the result does not depend on the split into batches for a layer whose input does not depend on it. A prior
prevents a few similar images from replacing the statistics of many (Schneider et al., arXiv 2006.16971, equation 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


def batchnorm_layers(net: nn.Module) -> list[nn.Module]:
    """Return the layers with running statistics, including those inside TorchScript modules."""
    return [m for m in net.modules() if any(name == "running_mean" for name, _ in m.named_buffers(recurse=False))]


@dataclass(frozen=True)
class BatchNormPrior:
    """Statistics from training, weighted as a number of images."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Mean and variance of each layer."""
    num_images: int

    @classmethod
    def of(cls, net: nn.Module, num_images: int) -> BatchNormPrior:
        """Return a prior with the current statistics of a net."""
        layers = batchnorm_layers(net)
        return cls(
            tuple(
                (cast(Tensor, layer.running_mean).clone(), cast(Tensor, layer.running_var).clone()) for layer in layers
            ),
            num_images,
        )


@torch.no_grad()
def refresh_batchnorm(
    net: nn.Module,
    forward: Callable[[Tensor], object],
    batches: Sequence[Tensor],
    *,
    prior: BatchNormPrior | None = None,
) -> int:
    """Replace the running statistics of all layers by those of the given images.

    All layers are measured together: the input of each is computed with the statistics of the same batch. The variance
    is unbiased, as in training, up to a relative error of 1 / (number of values in a batch).

    Args:
        net: Net, in eval mode afterwards. Layers that no image reaches, and layers traced in a fixed mode, keep their
            statistics.
        forward: Runs the net on a batch.
        batches: Batches of images [B,...].
        prior: Prior statistics to mix in; None uses the images alone.

    Returns:
        The number of layers with new statistics.
    """
    net.eval()
    layers = batchnorm_layers(net)
    saved = [{name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)} for layer in layers]
    means: list[list[Tensor]] = [[] for _ in layers]
    variances: list[list[Tensor]] = [[] for _ in layers]
    for layer in layers:
        layer.train()
    for batch in batches:
        for layer in layers:  # starting from 0, one update gives momentum * batch statistics
            for _, buffer in layer.named_buffers(recurse=False):
                buffer.zero_()
        forward(batch)
        for place, layer in enumerate(layers):
            momentum = getattr(layer, "momentum", None)  # traced layers have none and are not updated
            share = 1.0 if momentum is None else momentum
            means[place].append(cast(Tensor, layer.running_mean) / share)
            variances[place].append(cast(Tensor, layer.running_var) / share)
    net.eval()
    weights = torch.tensor([float(len(batch)) for batch in batches])
    num_measured = 0
    for place, layer in enumerate(layers):
        for name, buffer in layer.named_buffers(recurse=False):
            buffer.copy_(saved[place][name])
        if batches and any(bool(variance.any()) for variance in variances[place]):
            mean, variance = _pooled(torch.stack(means[place]), torch.stack(variances[place]), weights)
            if prior is not None:
                share = prior.num_images / (prior.num_images + float(weights.sum()))
                before = prior.layers[place]
                mean, variance = (
                    share * old + (1 - share) * new for old, new in zip(before, (mean, variance), strict=True)
                )
            cast(Tensor, layer.running_mean).copy_(mean)
            cast(Tensor, layer.running_var).copy_(variance)
            num_measured += 1
    return num_measured


def _pooled(means: Tensor, variances: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pooled mean and variance of all batches [batches, channels]."""
    share = (weights / weights.sum()).to(means)[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)
