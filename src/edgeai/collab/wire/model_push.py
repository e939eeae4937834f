"""Serialization of model updates: the whole model, its largest changes, or BatchNorm only.

A push is a compressed safetensors file with digests; it is never unpickled. Values are sent as float16, so the edge
gets rounded ones: its model is `apply_push(push, old)`, which the sender computes as well.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edgeai.collab.models.state import state_digest
from edgeai.core.errors import EdgeAIError

PushKind = Literal["full", "delta", "bn"]
State = Mapping[str, Tensor]
"""A module's state_dict: parameters and buffers by name, on the CPU."""

_MASK, _VALUES = "delta/mask", "delta/values"
_ZLIB_LEVEL = 6
_SLACK_BYTES = 1 << 20
_HINT = "the edge keeps its model; push the whole model instead (kind full)"


def encode_push(new: State, old: State, kind: PushKind, *, frac: float = 0.05) -> bytes:
    """Serialize an update.

    Args:
        new: Model after training.
        old: Current model of the edge; same names and shapes.
        kind: Content of the push. "full": all values. "delta": the values selected by `largest_changes`, with a packed
            bit mask (AMS, arXiv 2006.06628), and all running statistics. "bn": BatchNorm parameters and running
            statistics.
        frac: Share of parameters that may change, for "delta".

    Returns:
        The push, for `apply_push`.

    Raises:
        EdgeAIError: A value is not finite or too large for float16, or the model has no BatchNorm layers.
    """
    tensors: dict[str, Tensor]
    if kind == "full":
        tensors = {name: _as_sent(name, new[name]) for name in sorted(new)}
    elif kind == "bn":
        tensors = {name: _as_sent(name, new[name]) for name in batch_norm_names(new)}
        if not tensors:
            raise EdgeAIError("cannot push kind bn: the model has no BatchNorm layers", hint="push kind delta or full")
    else:
        names = _parameter_names(new)
        tensors = {name: _as_sent(name, new[name]) for name in sorted(new) if name not in names}
        masks = largest_changes(new, old, frac)
        mask = torch.cat([masks[name].flatten() for name in names])
        values = torch.cat([new[name].flatten() for name in names])[mask]
        tensors[_MASK] = torch.from_numpy(np.packbits(mask.numpy()))
        tensors[_VALUES] = _as_sent("the changes", values)
    about = {"kind": kind, "base": "" if kind == "full" else state_digest(old)}
    about["result"] = state_digest(_merged(tensors, old))
    # a single entry: safetensors writes several in varying order, which changes the size of the push
    metadata = {"about": json.dumps(about, sort_keys=True)}
    return zlib.compress(save(tensors, metadata=metadata), _ZLIB_LEVEL)


def apply_push(data: bytes, state: State) -> dict[str, Tensor]:
    """Return the model after an update; `state` is not modified.

    Args:
        data: Push from `encode_push`.
        state: Model to update.

    Raises:
        EdgeAIError: The push is damaged, is for another model or version, or the result differs from the sender's.
    """
    tensors, about = _open(data, state)
    if about["base"] and about["base"] != state_digest(state):
        raise EdgeAIError(f"this push is for model {about['base']}, not {state_digest(state)}", hint=_HINT)
    names = _parameter_names(state)
    known = {name: tensor.shape for name, tensor in state.items()}
    if _MASK in tensors and _VALUES in tensors:
        num_bits = sum(state[name].numel() for name in names)
        bits = np.unpackbits(tensors[_MASK].numpy())
        if len(bits) - num_bits not in range(8) or int(bits.sum()) != tensors[_VALUES].numel():
            raise EdgeAIError("this push is for another architecture: its mask has another length", hint=_HINT)
        known |= {_MASK: tensors[_MASK].shape, _VALUES: tensors[_VALUES].shape}
    for name, tensor in sorted(tensors.items()):
        if known.get(name) != tensor.shape:
            raise EdgeAIError(f"this push is for another architecture: {name} {list(tensor.shape)}", hint=_HINT)
    result = _merged(tensors, state)
    if state_digest(result) != about["result"]:
        raise EdgeAIError(f"this push does not result in model {about['result']}", hint=_HINT)
    return result


def largest_changes(new: State, old: State, frac: float) -> dict[str, Tensor]:
    """Return masks of the parameters that changed most: the coordinates that AMS selects after one full step.

    Running statistics are excluded: they have no gradients and another scale.

    Args:
        new: Model after the step.
        old: Model before the step.
        frac: Share of all parameters, in (0, 1].

    Returns:
        One mask per parameter (True = selected); unchanged values are never selected.
    """
    names = _parameter_names(new)
    sizes = [new[name].numel() for name in names]
    change = torch.cat([(new[name] - old[name]).flatten().abs().float() for name in names]).numpy()
    largest = np.argsort(-change, kind="stable")[: round(frac * len(change))]  # stable: ties are resolved by position
    mask = np.zeros(len(change), bool)
    mask[largest] = change[largest] > 0
    parts = torch.from_numpy(mask).split(sizes)
    return {name: part.reshape(new[name].shape) for name, part in zip(names, parts, strict=True)}


def batch_norm_names(state: State) -> list[str]:
    """Return the names of all BatchNorm parameters and statistics, sorted."""
    layers = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    return sorted(name for name in state if name.rpartition(".")[0] in {layer.rstrip(".") for layer in layers})


def _parameter_names(state: State) -> list[str]:
    """Return the names of all floating-point values except running statistics."""
    return sorted(
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not name.endswith(("running_mean", "running_var"))
    )


def _as_sent(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().contiguous()
    half = tensor.detach().half().contiguous()
    if not half.isfinite().all():
        raise EdgeAIError(f"cannot push {name}: a value is not finite or too large for float16", hint="train again")
    return half


def _merged(tensors: Mapping[str, Tensor], state: State) -> dict[str, Tensor]:
    """Replace old values by sent ones, in the old number format."""
    result = {name: tensors.get(name, tensor).to(tensor.dtype) for name, tensor in state.items()}
    if _MASK in tensors:
        names = _parameter_names(state)
        flat = torch.cat([state[name].flatten() for name in names])
        bits = np.unpackbits(tensors[_MASK].numpy(), count=len(flat)).astype(bool)
        flat[torch.from_numpy(bits)] = tensors[_VALUES].to(flat.dtype)
        parts = flat.split([state[name].numel() for name in names])
        result |= {name: part.reshape(state[name].shape) for name, part in zip(names, parts, strict=True)}
    return result


def _open(data: bytes, state: State) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Decompress a push; return its tensors and its metadata."""
    limit = _SLACK_BYTES + 2 * sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, limit)
        if not inflater.eof:
            raise EdgeAIError(f"damaged model push ({len(data)} bytes): truncated or too large", hint=_HINT)
        header_bytes = int.from_bytes(raw[:8], "little")  # safetensors: length, JSON header, values
        about = json.loads(json.loads(raw[8 : 8 + header_bytes])["__metadata__"]["about"])
        return load(raw), {key: str(about[key]) for key in ("kind", "base", "result")}
    except (zlib.error, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EdgeAIError(f"damaged model push ({len(data)} bytes): {error}", hint=_HINT) from None
