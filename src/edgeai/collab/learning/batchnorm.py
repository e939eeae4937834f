"""BatchNorm statistics measured anew on recent images: adaptation to a new light without any label.

Shapes: B images, H x W pixels.

Source: adaptive BatchNorm (Li et al., arXiv 1603.04779). Differs from averaging running statistics: batches are
pooled, so the split into batches does not matter to a layer whose input does not depend on it. A prior keeps a few
images from the same place from undoing what was learned on many (Schneider et al., arXiv 2006.16971, equation 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


def batchnorm_layers(net: nn.Module) -> list[nn.Module]:
    """Layers that keep running statistics, those inside a TorchScript module included."""
    return [m for m in net.modules() if any(name == "running_mean" for name, _ in m.named_buffers(recurse=False))]


@dataclass(frozen=True)
class BatchNormPrior:
    """Statistics from training that count as much as a number of images."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Mean and variance of each layer."""
    num_images: int

    @classmethod
    def of(cls, net: nn.Module, num_images: int) -> BatchNormPrior:
        """The statistics that a net has now."""
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
    """Replaces the running statistics of all layers by those of the given images.

    Layers are measured together: each sees what the layers before it give with the statistics of the same batch. The
    variance is the unbiased one, as in training, up to a relative error of one over the number of places in a batch.

    Args:
        net: Left in eval mode. A layer that no image reaches, or whose mode was fixed when it was traced, keeps its
            statistics.
        forward: Runs the net on a batch.
        batches: Images [B,...] each.
        prior: Is mixed in; None takes the images alone.

    Returns:
        How many layers were measured.
    """
    net.eval()
    layers = batchnorm_layers(net)
    saved = [{name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)} for layer in layers]
    means: list[list[Tensor]] = [[] for _ in layers]
    variances: list[list[Tensor]] = [[] for _ in layers]
    for layer in layers:
        layer.train()
    for batch in batches:
        for layer in layers:  # from 0, one update leaves momentum * statistics of the batch
            for _, buffer in layer.named_buffers(recurse=False):
                buffer.zero_()
        forward(batch)
        for place, layer in enumerate(layers):
            momentum = getattr(layer, "momentum", None)  # traced layers have lost theirs, and do not move either
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
    """Mean and variance of all batches together, from those of each [batches, channels]."""
    share = (weights / weights.sum()).to(means)[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)
