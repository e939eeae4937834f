"""Muon with the orthogonalization in float32, for processors without fast bfloat16 products.

`torch.optim.Muon` orthogonalizes in bfloat16 only. A CPU without bfloat16 instructions emulates these products, about
fifteen times as slowly as it multiplies in float32.

Source: `torch/optim/_muon.py` of torch 2.13; Jordan et al., Muon (https://kellerjordan.github.io/posts/muon/). Scale of
the update: Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Float32Muon(torch.optim.Muon):
    """`torch.optim.Muon` (Nesterov momentum, `match_rms_adamw`), except that it orthogonalizes in float32.

    Its checkpoint has the same form.

    Args:
        params: Matrices to optimize, in float32.
        lr: Learning rate.
        momentum: Decay of the gradient's mean.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the matrices that have a gradient.

        Args:
            closure: Computes the gradients again and returns the loss; None if they are there.

        Returns:
            The loss of the closure.
        """
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(param.grad)
                mean = state["momentum_buffer"].lerp_(param.grad, 1 - group["momentum"])
                update = orthogonalize(
                    param.grad.lerp(mean, group["momentum"]),
                    coefficients=group["ns_coefficients"],
                    steps=group["ns_steps"],
                    eps=group["eps"],
                )
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update, alpha=-group["lr"] * 0.2 * max(param.shape) ** 0.5)
        return loss


def orthogonalize(matrix: Tensor, *, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of a matrix [O, I] near 1 by Newton-Schulz iterations, in its own number format.

    Each iteration maps a singular value s to a s + b s^3 + c s^5.

    Args:
        matrix: Matrix [O, I].
        coefficients: The factors a, b and c.
        steps: Number of iterations.
        eps: Least norm that the matrix is divided by.
    """
    a, b, c = coefficients
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # the smaller of both Gram matrices
    x = x / x.norm().clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
