"""UnSplit (Erdogan, Küpçü and Cicek 2022): optimize inputs and a copy of the client part to match smashed data.

The server knows the architecture but not the data. It alternates between steps on the inputs and steps on the copy's
weights. With known weights, as a federated server has them, only the inputs are optimized (He et al. 2019, white box).

Differs from the paper: Adam with one learning rate for both, and far fewer steps by default.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.fedsplit.config.privacy import UnsplitConfig


def unsplit(
    z: Tensor,
    shape: torch.Size,
    copy_of_client: nn.Module,
    cfg: UnsplitConfig,
    *,
    seed: int,
    bound: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the inputs [n, *shape] reconstructed from z, in the units of the inputs.

    Args:
        z: Sent data [n, ...].
        shape: Shape of one input.
        copy_of_client: Net with the client part's architecture and initial weights (see `forget_weights`); trained in
            place unless `cfg.knows_weights`.
        cfg: Number of steps and learning rate.
        seed: Seed of the initial inputs, which are small and random because constant images can have zero gradients
            behind normalization and ReLU.
        bound: Function that the client is known to apply to the part's output.
    """
    z = z.detach()
    copy_of_client.eval()
    start = torch.randn((len(z), *shape), generator=torch.Generator().manual_seed(seed)) * 0.1
    x = start.to(z.device).requires_grad_(True)
    on_inputs = torch.optim.Adam([x], lr=cfg.lr, amsgrad=True)
    weights = [] if cfg.knows_weights else [w for w in copy_of_client.parameters() if w.requires_grad]
    on_weights = torch.optim.Adam(weights, lr=cfg.lr, amsgrad=True) if weights else None

    def mismatch() -> Tensor:
        guess = copy_of_client(x)
        return F.mse_loss(guess if bound is None else bound(guess), z)

    for _ in range(cfg.num_rounds):
        for _ in range(cfg.num_input_steps):
            (x.grad,) = torch.autograd.grad(mismatch() + cfg.smoothness * _total_variation(x), [x])
            on_inputs.step()
        if on_weights is None:
            continue
        for _ in range(cfg.num_weight_steps):
            gradients = torch.autograd.grad(mismatch(), weights, allow_unused=True)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            on_weights.step()
    return x.detach()


def forget_weights(part: nn.Module, *, seed: int) -> nn.Module:
    """Reinitialize the weights of `part` in place, for an attacker who knows only the architecture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in part.modules():
            reset = getattr(module, "reset_parameters", None)  # only layers with weights have it
            if callable(reset):
                reset()
    return part


def _total_variation(x: Tensor) -> Tensor:
    """Return the mean squared difference of neighboring pixels of images [n, c, h, w]; 0 for other inputs."""
    if x.dim() != 4:
        return x.new_zeros(())
    down, across = x.diff(dim=2), x.diff(dim=3)
    return down.square().mean() + across.square().mean()
