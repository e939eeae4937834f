"""DP-SGD on the client part (Abadi et al. 2016), given the gradients at the cut.

Shapes: b samples. x [b, ...], cut gradients g [b, ...] with g_i = (1/b) dl_i/dz_i, from the batch-mean loss. The
gradient of one sample's own loss l_i is then J_i^T (b g_i), with J_i the Jacobian of z_i with respect to the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from edgeai.core.errors import UsageError

_CHUNK_VALUES = 1 << 24
"""Limit on per-sample gradient values in memory: 64 MiB of float32."""

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""(x [1, ...], z [1, ...]) to a scalar that the client adds to the loss of one sample."""


def refuse_mixing(part: nn.Module) -> None:
    """Check that a sample's gradient through `part` depends only on that sample and can be recomputed.

    Raises:
        UsageError: The part has a BatchNorm, or an active Dropout, whose masks cannot be repeated.
    """
    for name, module in part.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f'DP-SGD cannot clip per sample through "{name}" ({kind}): it mixes the samples of a batch',
                hint="use GroupNorm in the client part, or leave privacy.dp_sgd empty",
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0.0 and module.training:
            raise UsageError(
                f'DP-SGD cannot repeat the random masks of "{name}" ({kind}) per sample',
                hint="move dropout to the server part, or leave privacy.dp_sgd empty",
            )


def fill_private_gradients(
    part: nn.Module,
    x: Tensor,
    cut_gradients: Tensor,
    *,
    clip: float,
    noise_multiplier: float,
    generator: torch.Generator,
    bound: Callable[[Tensor], Tensor] | None = None,
    extra: SampleLoss | None = None,
) -> None:
    """Set .grad of the part's trainable parameters to (sum of clipped per-sample gradients + noise) / b.

    Args:
        part: The client part.
        x: Inputs [b, ...].
        cut_gradients: Gradients [b, ...] of the batch-mean loss with respect to the sent values.
        clip: Largest L2 norm of one sample's gradient, over all parameters together.
        noise_multiplier: Factor of the noise N(0, (noise_multiplier clip)²) on the sum.
        generator: Samples the noise.
        bound: Function between the part's output and the sent values, without additive noise.
        extra: Loss of one sample that the client adds; clipped together with the rest.

    Raises:
        UsageError: The part mixes samples (see `refuse_mixing`).
    """
    refuse_mixing(part)
    named = {name: weight for name, weight in part.named_parameters() if weight.requires_grad}
    if not named:
        return
    num_samples = len(x)
    totals = {name: torch.zeros_like(weight) for name, weight in named.items()}
    for gradients in _per_sample(part, named, x, cut_gradients * num_samples, bound, extra):
        factors = _clip_factors(gradients, clip)
        for name, gradient in gradients.items():
            totals[name] += torch.einsum("i,i...->...", factors, gradient)
    for name, weight in named.items():
        noise = torch.randn(weight.shape, generator=generator) * (noise_multiplier * clip)
        weight.grad = (totals[name] + noise.to(weight)) / num_samples


def _clip_factors(gradients: dict[str, Tensor], clip: float) -> Tensor:
    """Return min(1, clip / norm) of each sample [c], with norms over all parameters together."""
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()]).sum(0)
    return (clip / squares.sqrt().clamp_min(torch.finfo(squares.dtype).tiny)).clamp_max(1.0)


def _per_sample(
    part: nn.Module,
    named: dict[str, nn.Parameter],
    x: Tensor,
    cut: Tensor,
    bound: Callable[[Tensor], Tensor] | None,
    extra: SampleLoss | None,
) -> Iterator[dict[str, Tensor]]:
    """Yield the gradients of chunks of c samples: parameter name to [c, *parameter shape]."""
    weights = {name: weight.detach() for name, weight in named.items()}
    fixed = {name: weight.detach() for name, weight in part.named_parameters() if name not in named}
    fixed.update(part.named_buffers())

    def product(weights: dict[str, Tensor], one: Tensor, gradient: Tensor) -> Tensor:
        z = functional_call(part, {**weights, **fixed}, (one.unsqueeze(0),))
        z = z if bound is None else bound(z)
        total = (z * gradient).sum()
        return total if extra is None else total + extra(one.unsqueeze(0), z)

    gradient_of = grad(product)
    if any(isinstance(module, nn.RNNBase) for module in part.modules()):  # vmap does not support them
        for one, gradient in zip(x, cut, strict=True):
            single = gradient_of(weights, one, gradient)
            yield {name: value.unsqueeze(0) for name, value in single.items()}
        return
    chunk = max(1, _CHUNK_VALUES // sum(weight.numel() for weight in weights.values()))
    batched = vmap(gradient_of, in_dims=(None, 0, 0))
    for start in range(0, len(x), chunk):
        yield batched(weights, x[start : start + chunk], cut[start : start + chunk])
