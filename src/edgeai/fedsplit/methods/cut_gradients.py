"""Per-sample gradients at the cut, without a training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def gradient_at(module: nn.Module, z: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
    """Return the gradient [n, ...] of each sample's cross-entropy loss with respect to z.

    Args:
        module: Layers behind the cut.
        z: Smashed data, [n, ...].
        y: Labels, [n].
        create_graph: Whether the result is differentiable with respect to the module's weights.
    """
    leaf = z.detach().requires_grad_()
    loss = F.cross_entropy(module(leaf), y, reduction="sum")
    [gradient] = torch.autograd.grad(loss, leaf, create_graph=create_graph)
    return gradient
