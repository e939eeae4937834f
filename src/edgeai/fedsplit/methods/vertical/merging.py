"""Merge of the clients' smashed data, and adaptation of layers to a new input size.

Legend: z_k [b, ...] smashed data of client k.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError

Kind = Literal["concat", "sum", "mean", "max"]
_CONVS = (nn.Conv1d, nn.Conv2d)


class Merge(nn.Module):
    """Merges the smashed data of several clients.

    Args:
        kind: Kind of the merge.
        shapes: Shape of one sample of each client's z.
        axis: Axis of concatenation within a sample, counted from the end.

    Raises:
        UsageError: The shapes are not compatible.
    """

    def __init__(self, kind: Kind, shapes: Sequence[tuple[int, ...]], axis: int = -1) -> None:
        super().__init__()
        self.kind, self.shapes, self.axis = kind, [tuple(shape) for shape in shapes], axis
        first, *others = [self._must_agree(shape) for shape in self.shapes]
        for client, other in enumerate(others, 1):
            if other != first:
                raise UsageError(
                    f"method.merge {kind}: client 0 sends samples of shape {list(self.shapes[0])}, client {client} of "
                    f"{list(self.shapes[client])}",
                    hint="give every client the same number of inputs"
                    + ("" if kind == "concat" else ", or set method.merge=concat"),
                )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one merged sample."""
        shape = list(self.shapes[0])
        if self.kind == "concat":
            shape[self.axis] = sum(one[self.axis] for one in self.shapes)
        return tuple(shape)

    def forward(self, parts: Mapping[int, Tensor]) -> Tensor:
        """Return the merged input. Missing clients are zeros in concat, and are left out of the other merges."""
        found = list(parts.values())
        if self.kind == "concat":
            like = found[0]
            zeros = {k: like.new_zeros((len(like), *s)) for k, s in enumerate(self.shapes) if k not in parts}
            return torch.cat([parts[k] if k in parts else zeros[k] for k in range(len(self.shapes))], self.axis)
        stacked = torch.stack(found)
        if self.kind == "max":
            return stacked.amax(0)  # equal values share the gradient
        return stacked.sum(0) if self.kind == "sum" else stacked.mean(0)

    def _must_agree(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.kind != "concat":
            return shape
        rest = list(shape)
        rest[self.axis] = 0
        return tuple(rest)


class _MisfitError(Exception):
    """The input size of a layer does not match."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.name, self.size = name, size


def fitted(
    layers: nn.Sequential,
    shape: tuple[int, ...],
    seed: int,
    *,
    complaint: str,
    hint: str,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return a copy of layers in which linear and convolutional layers are replaced if their input size differs.

    Args:
        layers: Layers for another input.
        shape: Shape of one sample of the new input.
        seed: Seed of the new weights.
        complaint: Error message if another layer does not accept its input.
        hint: Hint of that error.
        dtype: Data type of the new input.

    Raises:
        UsageError: A layer that cannot be replaced does not accept its input.
    """
    layers = copy.deepcopy(layers)
    device = next((parameter.device for parameter in layers.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while True:
            try:
                _try(layers, torch.zeros(2, *shape, device=device, dtype=dtype))
            except _MisfitError as misfit:
                _replace(layers, misfit.name, misfit.size)
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                raise UsageError(f"{complaint}: {reason}", hint=hint) from None
            else:
                return layers


@torch.no_grad()
def _try(layers: nn.Sequential, x: Tensor) -> None:
    hooks = []
    for name, layer in layers.named_modules():
        if isinstance(layer, (nn.Linear, *_CONVS)):
            hooks.append(layer.register_forward_pre_hook(_check(name)))
    was_training = layers.training
    layers.eval()
    try:
        layers(x)
    finally:
        layers.train(was_training)
        for hook in hooks:
            hook.remove()


def _check(name: str) -> Any:
    def check(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        is_linear = isinstance(layer, nn.Linear)
        size, wanted = (args[0].shape[-1], layer.in_features) if is_linear else (args[0].shape[1], layer.in_channels)
        if size != wanted:
            raise _MisfitError(name, size)

    return check


def _replace(layers: nn.Sequential, name: str, size: int) -> None:
    """Replace a layer by one with another input size and new weights."""
    old = layers.get_submodule(name)
    weight = next(old.parameters())
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(size, old.out_features, bias=old.bias is not None)
    else:
        assert isinstance(old, _CONVS)
        new = type(old)(
            size,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            old.dilation,  # type: ignore[arg-type]
            old.groups,
            old.bias is not None,
        )
    parent, _, child = name.rpartition(".")
    setattr(layers.get_submodule(parent), child, new.to(weight))
