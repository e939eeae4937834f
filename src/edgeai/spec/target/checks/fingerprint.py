"""The fingerprint of a target: a short hash of values of every tensor, equal on both runtimes and in any number format.

Heads hold the fingerprint of their target. Version 2 samples all tensors; version 1, without a prefix, sampled three.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
SAMPLES = 256
"""Values of a tensor that enter: a change of one value in twenty of a single tensor is missed once in 500,000."""
_STRIDE = 2654435761  # a prime: the values are spread over all rows and columns, none is taken twice
_SMALLEST = 2.0**-14  # below it float16 rounds what bfloat16 holds
_LAYER = (
    "input_layernorm",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "post_attention_layernorm",
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a target's weights."""

    current: str
    former: str = ""
    """The hash that version 1 of the fingerprint gives the same weights."""


@lru_cache
def sample_positions(num_values: int) -> Array:
    """Return the positions in a flattened tensor whose values enter the fingerprint."""
    return np.arange(min(num_values, SAMPLES), dtype=np.int64) * _STRIDE % num_values


def tensor_names(num_layers: int) -> list[str]:
    """Return the names, as in transformers, of all tensors that a model may have, in the order of the fingerprint."""
    modules = ["model.embed_tokens", "lm_head", "model.norm"]
    modules += [f"model.layers.{index}.{module}" for index in range(num_layers) for module in _LAYER]
    return [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]


def digest(samples: Iterable[tuple[str, int, Array]]) -> str:
    """Return the fingerprint of version 2.

    Args:
        samples: Name, number of values and sampled values (float32) of each tensor that the model has, in the order
            of `tensor_names`; a tied output matrix is left out.
    """
    parts = list(samples)
    rounded = torch.from_numpy(np.concatenate([values for _, _, values in parts])).to(torch.bfloat16)
    rounded[rounded.abs() < _SMALLEST] = 0  # also makes -0 and 0 equal
    found = hashlib.sha256(repr([(name, num_values) for name, num_values, _ in parts]).encode())
    found.update(rounded.view(torch.int16).numpy().tobytes())
    return f"2:{found.hexdigest()[:16]}"


def fingerprint_of_tensors(tensors: Mapping[str, Tensor], *, num_layers: int, is_tied: bool) -> Fingerprint:
    """Return the fingerprint of the weights of a transformers model."""

    def samples() -> Iterable[tuple[str, int, Array]]:
        for name in tensor_names(num_layers):
            if name in tensors and not (is_tied and name == "lm_head.weight"):
                flat = tensors[name].detach().flatten()
                values = flat[torch.from_numpy(sample_positions(flat.numel())).to(flat.device)]
                yield name, flat.numel(), values.float().cpu().numpy()

    return Fingerprint(digest(samples()), _version_1(tensors, num_layers))


def _version_1(tensors: Mapping[str, Tensor], num_layers: int) -> str:
    last = f"model.layers.{num_layers - 1}"
    names = ("model.embed_tokens.weight", f"{last}.mlp.down_proj.weight", f"{last}.self_attn.q_proj.weight")
    sample = torch.cat([tensors[name].detach().flatten()[::1009] for name in names])
    return version_1_digest(sample)


def version_1_digest(sample: Tensor) -> str:
    """Return the fingerprint of version 1 of every 1009th value of embedding, last down and last query projection."""
    data = sample.to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]
