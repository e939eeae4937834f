"""A model update as bytes: the whole model, its largest changes, or its batch normalisation only.

A push is a compressed safetensors file with digests; it is never unpickled. Values travel as float16, so the edge ends
with rounded ones: what it will hold is `apply_push(push, old)`, which the sender computes too.
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
    """Packs an update.

    Args:
        new: The model after training.
        old: The model that the edge holds now; same names and shapes.
        kind: "full": everything. "delta": the changed values of `largest_changes`, as a packed bit mask and the values
            there (AMS, arXiv 2006.06628), and all running statistics. "bn": batch normalisation, parameters and
            running statistics.
        frac: With "delta", the share of parameters that may change.

    Returns:
        The push, for `apply_push`.

    Raises:
        EdgeAIError: A value is not finite or too large for float16, or there is no batch normalisation to push.
    """
    tensors: dict[str, Tensor]
    if kind == "full":
        tensors = {name: _as_sent(name, new[name]) for name in sorted(new)}
    elif kind == "bn":
        tensors = {name: _as_sent(name, new[name]) for name in batch_norm_names(new)}
        if not tensors:
            raise EdgeAIError(
                "cannot push kind bn: the model has no batch normalisation", hint="push kind delta or full"
            )
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
    # one entry: safetensors writes several in an order that changes, and with it the size of the push
    metadata = {"about": json.dumps(about, sort_keys=True)}
    return zlib.compress(save(tensors, metadata=metadata), _ZLIB_LEVEL)


def apply_push(data: bytes, state: State) -> dict[str, Tensor]:
    """Returns the model after an update; `state` stays as it is.

    Args:
        data: What `encode_push` made.
        state: The model to update.

    Raises:
        EdgeAIError: The push is damaged, is for another model or another version of it, or did not give what the
            sender saw.
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
        raise EdgeAIError(f"this push did not give model {about['result']}", hint=_HINT)
    return result


def largest_changes(new: State, old: State, frac: float) -> dict[str, Tensor]:
    """Returns masks of the parameters that changed most: AMS's choice of coordinates after one full step.

    Running statistics are not among them: no gradient moves them, and their scale is another.

    Args:
        new: The model after the step.
        old: The model before it.
        frac: Share of all parameters, in (0, 1].

    Returns:
        A mask per parameter (True = among them); values that did not change are never among them.
    """
    names = _parameter_names(new)
    sizes = [new[name].numel() for name in names]
    change = torch.cat([(new[name] - old[name]).flatten().abs().float() for name in names]).numpy()
    largest = np.argsort(-change, kind="stable")[: round(frac * len(change))]  # stable: ties are settled by place
    mask = np.zeros(len(change), bool)
    mask[largest] = change[largest] > 0
    parts = torch.from_numpy(mask).split(sizes)
    return {name: part.reshape(new[name].shape) for name, part in zip(names, parts, strict=True)}


def batch_norm_names(state: State) -> list[str]:
    """Returns the names of everything that belongs to a batch normalisation, in order."""
    layers = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    return sorted(name for name in state if name.rpartition(".")[0] in {layer.rstrip(".") for layer in layers})


def _parameter_names(state: State) -> list[str]:
    """The names of floating point values that are no running statistics."""
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
    """Puts the sent values in the place of the old ones, in the old number format."""
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
    """Unpacks a push and what it says about itself."""
    limit = _SLACK_BYTES + 2 * sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, limit)
        if not inflater.eof:
            raise EdgeAIError(f"damaged model push ({len(data)} bytes): it ends early or is too large", hint=_HINT)
        header_bytes = int.from_bytes(raw[:8], "little")  # safetensors: length, JSON header, values
        about = json.loads(json.loads(raw[8 : 8 + header_bytes])["__metadata__"]["about"])
        return load(raw), {key: str(about[key]) for key in ("kind", "base", "result")}
    except (zlib.error, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EdgeAIError(f"damaged model push ({len(data)} bytes): {error}", hint=_HINT) from None
