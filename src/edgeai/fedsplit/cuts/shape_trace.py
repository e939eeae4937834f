"""Runs layers forward on tensors without data, and records outputs, FLOPs and the storages that autograd keeps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

TRACE_BATCH = 2
"""Batch size of a trace. BatchNorm cannot train on one sample, so results are divided by 2."""


@dataclass(frozen=True)
class LayerTrace:
    """Output and FLOPs of one layer for `TRACE_BATCH` samples."""

    output: Tensor
    flops: int


@dataclass(frozen=True)
class SavedStorage:
    """A storage that autograd keeps for the backward pass."""

    num_bytes: int
    users: frozenset[int]
    """Numbers of the layers that saved it."""


@dataclass(frozen=True)
class Trace:
    """Forward pass through consecutive layers."""

    layers: list[LayerTrace]
    saved: list[SavedStorage]


def structural_copy(part: nn.Module, device: torch.device) -> nn.Module:
    """Copy a part's structure to a device, with zeros in place of its weights."""
    memo: dict[int, Any] = {}
    for tensor in (*part.parameters(), *part.buffers()):
        empty = torch.zeros_like(tensor, device=device, requires_grad=False)
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(part, memo).train()


def trace_layers(layers: Sequence[nn.Module], input_shape: Sequence[int], dtype: torch.dtype) -> Trace:
    """Run consecutive layers forward.

    Args:
        layers: Layers in order, on the device of the trace.
        input_shape: Shape of one sample of the first layer.
        dtype: Data type of that input.

    Raises:
        TypeError: A layer does not return a single tensor.
    """
    weights = [tensor for layer in layers for tensor in (*layer.parameters(), *layer.buffers())]
    device = weights[0].device if weights else torch.device("meta")
    x = torch.zeros((TRACE_BATCH, *input_shape), dtype=dtype, device=device, requires_grad=dtype.is_floating_point)
    not_counted = {tensor.untyped_storage()._cdata for tensor in weights}
    storages: dict[int, Any] = {}  # references prevent a freed storage from being counted again under the same id
    users: dict[int, set[int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            storages.setdefault(storage._cdata, storage)
            users.setdefault(storage._cdata, set()).add(len(traced))
        return tensor

    traced: list[LayerTrace] = []
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    # a forked generator: dropout must not advance the caller's
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), counter, saved_tensors_hooks(keep, lambda t: t):
        for layer in layers:
            before = counter.get_total_flops()
            x = layer(x)
            if not isinstance(x, Tensor):
                raise TypeError(f"it returns a {type(x).__name__}, expected one tensor")
            traced.append(LayerTrace(x, counter.get_total_flops() - before))
    return Trace(traced, [SavedStorage(storages[key].nbytes(), frozenset(users[key])) for key in storages])


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""The only fused attention kernel that torch's counter does not know."""


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Return the FLOPs of scores and weighted sum, from shapes [b, heads, T, width]; a causal mask saves none."""
    num_scores = query[0] * query[1] * query[2] * key[2]
    return 2 * num_scores * (query[3] + value[3])
