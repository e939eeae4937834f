"""GGUF files for the native runtime: weights as they are in the file, read in parts and packed."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native import rotary
from edgeai.spec.target.native.gguf_header import Header, Skipped, TensorInfo, quoted, read_header
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.native.packed_model import Hyperparameters, PackedModel
from edgeai.spec.target.native.packing import pack_model, read_floats
from edgeai.spec.target.native.rotary import Rotary

Array = np.ndarray
FAMILIES = {"llama": True, "qwen2": False, "qwen3": False}
"""Architectures, and whether their rotary pairs are interleaved (2 i, 2 i + 1) in the file."""
MAX_POSITIONS = 1 << 20
"""Longest context that is used, whatever the file claims."""
_KNOWN = frozenset(
    (
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "block_count",
        "vocab_size",
        "tensor_data_layout",
        *(f"attention.{name}" for name in ("head_count", "head_count_kv", "key_length", "value_length")),
        *(f"attention.{name}" for name in ("layer_norm_rms_epsilon", "sliding_window")),
        *(f"rope.{name}" for name in ("dimension_count", "freq_base")),
        *(f"rope.scaling.{name}" for name in ("type", "factor", "original_context_length", "finetuned")),
        *(f"rope.scaling.{name}" for name in ("attn_factor", "yarn_beta_fast", "yarn_beta_slow")),
    )
)
"""Keys of an architecture that are read, or whose value changes nothing."""
_ONLY = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.scale": (0.0,),
    "attention.causal": (True,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
}
"""Keys with the values at which they change nothing; all other keys may change the result."""
_LARGEST = {
    "embedding_length": 1 << 20,
    "feed_forward_length": 1 << 22,
    "block_count": 1 << 12,
    "attention.head_count": 1 << 12,
    "attention.head_count_kv": 1 << 12,
    "attention.key_length": 1 << 12,
}


def read_gguf(path: Path, library: Library) -> PackedModel:
    """Pack the weights of a GGUF file.

    Args:
        path: A file of one of `FAMILIES`.
        library: The compiled library.

    Raises:
        EdgeAIError: The file is damaged, or lacks tensors or keys.
        Unavailable: The file is sound, but its architecture, tensor types or sizes are not supported.
    """
    header = read_header(path)
    check_whole(path, header)
    with _TensorFile(path, header) as source:
        sizes = _Keys(path, header, source).hyperparameters()
        return pack_model(source, sizes, library, threads=torch.get_num_threads())


def read_hyperparameters(path: Path, header: Header) -> Hyperparameters:
    """Return the sizes and constants of a GGUF file, which describe it on every runtime.

    Raises:
        EdgeAIError: The file is damaged, lacks keys, or is a part of a file.
        Unavailable: The file is sound, but its architecture or a key is not supported.
    """
    check_whole(path, header)
    with _TensorFile(path, header) as source:
        return _Keys(path, header, source).hyperparameters()


def check_whole(path: Path, header: Header) -> None:
    """Check that a file is not a part of a split one.

    Raises:
        EdgeAIError: It is a part.
    """
    count, number = header.keys.get("split.count", 1), header.keys.get("split.no", 0)
    if count not in (0, 1):
        shown = number + 1 if isinstance(number, int) else "?"
        raise EdgeAIError(
            f"{path} is part {shown} of {count} of a split GGUF file, which is read whole only",
            hint="merge the parts into one file: llama-gguf-split --merge FIRST_PART WHOLE",
        )


class _TensorFile:
    """See `packing.Source`. Rows are read, not mapped: a file cut short meanwhile is then an error, not a signal."""

    def __init__(self, path: Path, header: Header) -> None:
        self.name, self.tensors = str(path), header.tensors
        self._descriptor = os.open(path, os.O_RDONLY)

    def __enter__(self) -> _TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, tensor: TensorInfo, first: int, count: int) -> Array:
        """See `packing.Source`."""
        raw = np.empty((count, tensor.row_bytes), np.uint8)
        if os.preadv(self._descriptor, [raw.data], tensor.offset + first * tensor.row_bytes) != raw.nbytes:
            raise EdgeAIError(f"{self.name} ended while the tensor {quoted(tensor.name)} was read")
        return raw


class _Keys:
    """Hyperparameters among the keys of a file."""

    def __init__(self, path: Path, header: Header, source: _TensorFile) -> None:
        self._path, self._keys, self._source = path, header.keys, source
        arch = self._keys.get("general.architecture")
        if not isinstance(arch, str):
            raise EdgeAIError(f"{path} has no key 'general.architecture'")
        if arch not in FAMILIES:
            raise Unavailable(f"{path.name} has the architecture {quoted(arch)}, not {', '.join(FAMILIES)}")
        self._arch = arch

    def hyperparameters(self) -> Hyperparameters:
        for key, value in self._keys.items():
            name = key.removeprefix(f"{self._arch}.")
            if name != key and name not in _KNOWN and value not in _ONLY.get(name, ()):
                raise Unavailable(f"it has the key {quoted(key)}: {_shown(value)}")
        hidden, num_heads = self._size("embedding_length"), self._size("attention.head_count")
        head_dim = self._size("attention.key_length", hidden // num_heads)
        for name in ("attention.value_length", "rope.dimension_count"):
            if self._size(name, head_dim) != head_dim:
                raise Unavailable(f"its {name} is not the width {head_dim} of its heads")
        positions = self._size("context_length")
        return Hyperparameters(
            hidden=hidden,
            intermediate=self._size("feed_forward_length"),
            num_layers=self._size("block_count"),
            num_heads=num_heads,
            num_kv_heads=self._size("attention.head_count_kv", num_heads),
            head_dim=head_dim,
            eps=self._positive("attention.layer_norm_rms_epsilon"),
            max_positions=min(positions, self._size("attention.sliding_window", positions), MAX_POSITIONS),
            rotary=self._rotary(head_dim, positions),
            is_interleaved=FAMILIES[self._arch],
        )

    def _size(self, name: str, default: int | None = None) -> int:
        key, largest = f"{self._arch}.{name}", _LARGEST.get(name, 1 << 63)
        value = self._keys.get(key, default)
        if value is None:
            raise EdgeAIError(f"{self._path} has no key '{key}'")
        if type(value) is not int or not 1 <= value <= largest:
            raise EdgeAIError(f"{self._path}: the key '{key}' is {_shown(value)}, not a number from 1 to {largest}")
        return value

    def _positive(self, name: str, default: float | None = None) -> float:
        key = f"{self._arch}.{name}"
        value = self._keys.get(key, default)
        if value is None:
            raise EdgeAIError(f"{self._path} has no key '{key}'")
        if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
            raise EdgeAIError(f"{self._path}: the key '{key}' is {_shown(value)}, not a positive number")
        return float(value)  # type: ignore[arg-type]

    def _rotary(self, head_dim: int, positions: int) -> Rotary:
        theta = self._positive("rope.freq_base", 10000.0)
        kind = self._keys.get(f"{self._arch}.rope.scaling.type", "none")
        inv_freq, attention_factor = rotary.plain(theta, head_dim), 1.0
        if kind == "linear":
            inv_freq = inv_freq / np.float32(self._positive("rope.scaling.factor"))
        elif kind == "yarn":
            factor = self._positive("rope.scaling.factor")
            inv_freq = rotary.yarn(
                theta,
                head_dim,
                factor=factor,
                original_positions=self._size("rope.scaling.original_context_length", positions),
                fast=self._positive("rope.scaling.yarn_beta_fast", 32.0),
                slow=self._positive("rope.scaling.yarn_beta_slow", 1.0),
            )
            attention_factor = rotary.yarn_attention_factor(factor)
        elif kind != "none":
            raise Unavailable(f"its rotary scaling has the type {_shown(kind)}")
        if "rope_freqs.weight" in self._source.tensors:  # Llama 3: one divisor per pair
            inv_freq = inv_freq / self._divisors(head_dim // 2)
        return Rotary(inv_freq, attention_factor * self._positive("rope.scaling.attn_factor", 1.0))

    def _divisors(self, num_pairs: int) -> Array:
        info, wanted = self._source.tensors["rope_freqs.weight"], (num_pairs,)
        if info.shape != wanted:
            raise EdgeAIError(f"{self._path}: the tensor 'rope_freqs.weight' has the shape {info.shape}, not {wanted}")
        divisors = read_floats(self._source, info)
        if not (divisors > 0).all():
            raise EdgeAIError(f"{self._path}: the tensor 'rope_freqs.weight' has values that are not positive")
        return divisors


def _shown(value: object) -> str:
    if isinstance(value, Skipped):
        return f"an array of {value.num_values} values"
    return quoted(value) if isinstance(value, str) else str(value)
