"""Measures the cost of a model part: parameters, FLOPs, memory kept for the backward pass, and output bytes.

Parts are measured on the meta device from shapes alone, which takes milliseconds and no memory for a part of any size.
One multiply-add is two FLOPs. Counted are matrix products, including those in convolutions, attention, GRU and LSTM;
element-wise operations (activations, norms, pooling, embeddings) are not counted, as is usual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.part_cost import PartCost
from edgeai.fedsplit.cuts.shape_trace import TRACE_BATCH, Trace, structural_copy, trace_layers

_REFUSED = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError)
"""Errors of a part that does not accept its input."""

BACKWARD_PER_FORWARD = 2
"""Measurement contract: a backward pass costs twice the forward pass, for the gradients of input and weights. The first
layer of a model needs no input gradient, but is charged the same, so that the costs of the parts always add up to that
of the model, wherever it is cut. A part without trainable weights needs the input gradient only: factor 1."""

StretchCost = Callable[[int, int], PartCost]
"""From `start` and `stop` to the cost of the layers start, ..., stop - 1, counted from 0."""


def measure_part(part: nn.Module, input_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> PartCost:
    """Measure a part in training mode, without changing it.

    Args:
        part: Part of a model, or a whole one, on any device including the meta device.
        input_shape: Shape of one input sample, without the batch dimension.
        dtype: Data type of the input; an integer type for tokens.

    Raises:
        UsageError: The part does not accept this input, or does not return a single tensor.
    """
    try:
        trace = trace_layers([structural_copy(part, torch.device("meta"))], input_shape, dtype)
    except _REFUSED as error:
        trace = _trace_on_cpu(part, input_shape, dtype, error)
    [layer] = trace.layers
    return _cost(part, layer.output, layer.flops, sum(storage.num_bytes for storage in trace.saved))


def measure_chain(
    parts: Iterable[nn.Module], input_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> list[PartCost]:
    """Measure consecutive parts one by one.

    Args:
        parts: Parts in order; each takes the output of the previous one.
        input_shape: Shape of one sample of the first part.
        dtype: Data type of the first part's input; the others take float32.

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
) -> StretchCost:
    """Measure all stretches of consecutive layers in one pass on the meta device.

    Args:
        layers: Layers in order; each takes the output of the previous one.
        input_shape: Shape of one sample of the first layer.
        dtype: Data type of the first layer's input.

    Raises:
        UsageError: As `measure_part`.
    """
    try:
        copies = list(structural_copy(nn.ModuleList(layers), torch.device("meta")).children())
        trace = trace_layers(copies, input_shape, dtype)
    except _REFUSED:  # the meta device refuses, or every device
        return _measured_one_by_one(layers, input_shape, dtype)

    def cost(start: int, stop: int) -> PartCost:
        part = nn.ModuleList(layers[start:stop])
        saved_bytes = sum(s.num_bytes for s in trace.saved if any(start <= user < stop for user in s.users))
        flops = sum(layer.flops for layer in trace.layers[start:stop])
        return _cost(part, trace.layers[stop - 1].output, flops, saved_bytes)

    return cost


def _measured_one_by_one(layers: Sequence[nn.Module], input_shape: Sequence[int], dtype: torch.dtype) -> StretchCost:
    singles = measure_chain(layers, input_shape, dtype)
    shapes = [tuple(input_shape), *(single.output_shape for single in singles)]

    def cost(start: int, stop: int) -> PartCost:
        part = nn.Sequential(*layers[start:stop])
        return measure_part(part, shapes[start], torch.float32 if start else dtype)

    return cost


def _cost(part: nn.Module, output: Tensor, flops: int, saved_bytes: int) -> PartCost:
    """Build the cost record from the figures of a trace."""
    parameters = list(part.parameters())
    num_trainable = sum(p.numel() for p in parameters if p.requires_grad)
    factor = BACKWARD_PER_FORWARD if num_trainable or not parameters else 1
    return PartCost(
        num_params=sum(p.numel() for p in parameters),
        num_trainable=num_trainable,
        weight_bytes=sum(t.numel() * t.element_size() for t in (*parameters, *_saved_buffers(part))),
        forward_flops=flops / TRACE_BATCH,
        backward_flops=factor * flops / TRACE_BATCH,
        saved_bytes=saved_bytes / TRACE_BATCH,
        output_shape=tuple(output.shape[1:]),
        output_bytes=math.prod(output.shape[1:]) * output.element_size(),
    )


def _saved_buffers(part: nn.Module) -> list[Tensor]:
    """Return the buffers in the state dict; the others (masks, tables) are rebuilt where they are needed."""
    names = set(part.state_dict(keep_vars=True))
    return [buffer for name, buffer in part.named_buffers() if name in names]


def _trace_on_cpu(part: nn.Module, input_shape: Sequence[int], dtype: torch.dtype, before: Exception) -> Trace:
    """Trace a part that the meta device cannot run, for example because it reads values."""
    where = f"{type(part).__name__} on a sample of shape {tuple(input_shape)}"
    if any(parameter.is_meta for parameter in part.parameters()):
        raise UsageError(f"cannot measure {where}: {_first_line(before)}") from None
    try:
        return trace_layers([structural_copy(part, torch.device("cpu"))], input_shape, dtype)
    except _REFUSED as error:
        raise UsageError(f"cannot measure {where}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
