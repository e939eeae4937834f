"""What a part of a model costs: parameters, FLOPs, memory kept for the backward pass, bytes at its end.

Measured on the meta device from shapes alone, so that a part of any size costs milliseconds and no memory. One
multiply-add is two FLOPs. What only moves or maps values (activations, norms, pooling, embeddings) is not counted, as
is usual; products of matrices inside convolutions, attention, GRU and LSTM are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.part_cost import PartCost

_REFUSED = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError)
"""What a part raises that does not take its input."""
_BATCH = 2
"""Measured with this many samples and divided: BatchNorm refuses to train on one."""

BACKWARD_PER_FORWARD = 2
"""The measurement contract: a backward pass costs twice the forward pass, for the input and for the weights. The first
layer of a model needs no gradient for its input; it is charged all the same, so that the parts of a model always add up
to the model, wherever it is cut. Where nothing is trained, only the gradient for the input is needed: once."""


Stretches = Callable[[int, int], PartCost]
"""The cost of a chain's layers from the first to the second number, counted from 0, the second left out."""


def measure_part(part: nn.Module, input_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> PartCost:
    """Measures a part in training mode, leaving it as it is.

    Args:
        part: Of a model, or a whole one; on any device, the meta device included.
        input_shape: Of one sample, without the batch.
        dtype: Of the input; whole numbers stand for tokens.

    Raises:
        UsageError: The part does not take this input, or returns something else than one tensor.
    """
    try:
        output, flops, saved_bytes = _trace(_twin(part, torch.device("meta")), input_shape, dtype)
    except _REFUSED as error:
        output, flops, saved_bytes = _trace_for_real(part, input_shape, dtype, error)
    return _cost(part, output, flops, saved_bytes)


def measure_chain(
    parts: Iterable[nn.Module], input_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> list[PartCost]:
    """Measures parts that follow each other.

    Args:
        parts: Each takes what the one before returns.
        input_shape: Of one sample of the first part.
        dtype: Of the first part's input; the others take float32.

    Raises:
        UsageError: As `measure_part`.
    """
    costs: list[PartCost] = []
    for part in parts:
        costs.append(measure_part(part, input_shape, dtype))
        input_shape, dtype = costs[-1].output_shape, torch.float32
    return costs


def measure_stretches(
    layers: Sequence[nn.Module], input_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> Stretches:
    """Measures every stretch of a chain of layers in one pass on the meta device.

    Args:
        layers: Each takes what the one before returns.
        input_shape: Of one sample of the first layer.
        dtype: Of the first layer's input.

    Returns:
        A function that gives the cost of the layers from `start` up to but without `stop`, counted from 0.

    Raises:
        UsageError: As `measure_part`.
    """
    try:
        twins = list(_twin(nn.ModuleList(layers), torch.device("meta")).children())
        outputs, kept = _run(twins, input_shape, dtype)
    except _REFUSED:  # by the meta device, or by all
        singles = measure_chain(layers, input_shape, dtype)
        shapes = [tuple(input_shape), *(single.output_shape for single in singles)]

        def measured(start: int, stop: int) -> PartCost:
            part = nn.Sequential(*layers[start:stop])
            return measure_part(part, shapes[start], torch.float32 if start else dtype)

        return measured

    def cost(start: int, stop: int) -> PartCost:
        part = nn.ModuleList(layers[start:stop])
        saved_bytes = sum(num_bytes for num_bytes, users in kept if any(start <= user < stop for user in users))
        return _cost(part, outputs[stop - 1][0], sum(flops for _, flops in outputs[start:stop]), saved_bytes)

    return cost


def _cost(part: nn.Module, output: Tensor, flops: int, saved_bytes: int) -> PartCost:
    """Puts together what was measured with a batch of two."""
    parameters = list(part.parameters())
    num_trainable = sum(p.numel() for p in parameters if p.requires_grad)
    times = BACKWARD_PER_FORWARD if num_trainable or not parameters else 1
    return PartCost(
        num_params=sum(p.numel() for p in parameters),
        num_trainable=num_trainable,
        weight_bytes=sum(t.numel() * t.element_size() for t in (*parameters, *_buffers(part))),
        forward_flops=flops / _BATCH,
        backward_flops=times * flops / _BATCH,
        saved_bytes=saved_bytes / _BATCH,
        output_shape=tuple(output.shape[1:]),
        output_bytes=math.prod(output.shape[1:]) * output.element_size(),
    )


def _buffers(part: nn.Module) -> list[Tensor]:
    """Buffers that belong to the weights; the others (masks, tables) are made anew where they are needed."""
    kept = set(part.state_dict(keep_vars=True))
    return [buffer for name, buffer in part.named_buffers() if name in kept]


def _twin(part: nn.Module, device: torch.device) -> nn.Module:
    """Copies a part's structure to a device without copying, or touching, its weights."""
    memo: dict[int, Any] = {}
    for tensor in (*part.parameters(), *part.buffers()):
        empty = torch.zeros_like(tensor, device=device, requires_grad=False)
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(part, memo).train()


def _trace_for_real(
    part: nn.Module, input_shape: Sequence[int], dtype: torch.dtype, before: Exception
) -> tuple[Tensor, int, int]:
    """Measures a part that the meta device cannot run, for example because it looks at values."""
    where = f"{type(part).__name__} on a sample of shape {tuple(input_shape)}"
    if any(parameter.is_meta for parameter in part.parameters()):
        raise UsageError(f"cannot measure {where}: {_first_line(before)}") from None
    try:
        return _trace(_twin(part, torch.device("cpu")), input_shape, dtype)
    except _REFUSED as error:
        raise UsageError(f"cannot measure {where}: {_first_line(error)}") from None


def _trace(part: nn.Module, input_shape: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, int, int]:
    """Runs a part forward.

    Returns:
        Its output, FLOPs, and bytes of the storages that autograd keeps.
    """
    [(output, flops)], kept = _run([part], input_shape, dtype)
    return output, flops, sum(num_bytes for num_bytes, _ in kept)


def _run(
    layers: Sequence[nn.Module], input_shape: Sequence[int], dtype: torch.dtype
) -> tuple[list[tuple[Tensor, int]], list[tuple[int, set[int]]]]:
    """Runs layers that follow each other forward.

    Returns:
        The output and FLOPs of each layer; and for each storage that autograd keeps its bytes, and the layers that
        asked for it.
    """
    weights = [tensor for layer in layers for tensor in (*layer.parameters(), *layer.buffers())]
    device = weights[0].device if weights else torch.device("meta")
    x = torch.zeros((_BATCH, *input_shape), dtype=dtype, device=device, requires_grad=dtype.is_floating_point)
    not_counted = {tensor.untyped_storage()._cdata for tensor in weights}
    storages: dict[int, Any] = {}  # held, so that none is freed and counted again as another
    users: dict[int, set[int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            storages.setdefault(storage._cdata, storage)
            users.setdefault(storage._cdata, set()).add(len(outputs))
        return tensor

    outputs: list[tuple[Tensor, int]] = []
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    # a forked generator: dropout must not move the caller's
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), counter, saved_tensors_hooks(keep, lambda t: t):
        for layer in layers:
            before = counter.get_total_flops()
            x = layer(x)
            if not isinstance(x, Tensor):
                raise TypeError(f"it returns a {type(x).__name__}, expected one tensor")
            outputs.append((x, counter.get_total_flops() - before))
    return outputs, [(storages[key].nbytes(), users[key]) for key in storages]


_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
"""The one fused attention that the counter does not know."""


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Scores and their mix, from the shapes [b, heads, T, width]; a causal mask saves nothing."""
    num_scores = query[0] * query[1] * query[2] * key[2]
    return 2 * num_scores * (query[3] + value[3])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
