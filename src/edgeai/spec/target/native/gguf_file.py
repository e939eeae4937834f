"""GGUF files for the native runtime: weights packed tensor by tensor as they are in the file, never dequantized."""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native import structures
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.protocol import Shape

Array = np.ndarray
FAMILIES = {"llama": True, "qwen2": False, "qwen3": False}
"""Architectures, and whether their rotary pairs are interleaved (2 i, 2 i + 1) in the file."""
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_ROW_MULTIPLE = 32  # inputs of a matrix come in groups that share a scale


@dataclass(frozen=True)
class PackedModel:
    """Packed weights of a decoder, and what holds their memory."""

    structure: structures.Model
    shape: Shape
    fingerprint: str
    inv_freq: torch.Tensor  # [hd / 2]
    kept: list[Any] = field(repr=False)
    _embedding: Any = field(repr=False)
    _lm_head: Any = field(repr=False)

    def embed(self, ids: Array) -> Array:
        """Embeddings of tokens [N, H], float32."""
        return _dequantized(self._embedding, ids)

    def embedding(self) -> torch.Tensor:
        """The whole embedding [V, H], float32."""
        return torch.from_numpy(_dequantized(self._embedding, slice(None)))

    def lm_head(self) -> torch.Tensor:
        """The whole output matrix [V, H], float32."""
        return torch.from_numpy(_dequantized(self._lm_head, slice(None)))


def read_gguf(path: Path, library: Library) -> PackedModel:
    """Pack the weights of a GGUF file.

    Args:
        path: A file of one of `FAMILIES`.
        library: The compiled library.

    Raises:
        EdgeAIError: The file is damaged, or lacks tensors or keys.
        Unavailable: The file is sound, but its architecture, tensor types or sizes are not supported.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise EdgeAIError(f"{path} is not a readable GGUF file: {str(error).splitlines()[0]}") from error
    return _Packer(path, reader, library).pack()


class _Packer:
    def __init__(self, path: Path, reader: Any, library: Library) -> None:
        self._path, self._reader, self._handle = path, reader, library.handle
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._kept: list[Any] = []
        self._arch = self._key("general.architecture")

    def pack(self) -> PackedModel:
        if self._arch not in FAMILIES:
            raise Unavailable(f"{self._path.name} has the architecture '{self._arch}', not {', '.join(FAMILIES)}")
        hidden, num_heads = self._arch_key("embedding_length"), self._arch_key("attention.head_count")
        head_dim = self._arch_key("attention.key_length", hidden // num_heads)
        num_kv, intermediate = self._arch_key("attention.head_count_kv"), self._arch_key("feed_forward_length")
        num_layers = self._arch_key("block_count")
        if head_dim % 16 or hidden % 32 or intermediate % 32:
            raise Unavailable(f"heads of width {head_dim}, {hidden} hidden and {intermediate} intermediate sizes")
        q_width, kv_width = num_heads * head_dim, num_kv * head_dim
        sizes = dict(
            zip(
                _MATRICES,
                (
                    (q_width, hidden),
                    (kv_width, hidden),
                    (kv_width, hidden),
                    (hidden, q_width),
                    (intermediate, hidden),
                    (intermediate, hidden),
                    (hidden, intermediate),
                ),
                strict=True,
            )
        )
        layers = (structures.Layer * num_layers)(
            *(
                structures.Layer(
                    self._vector(f"blk.{i}.attn_norm", hidden),
                    self._vector(f"blk.{i}.attn_q_norm", head_dim, optional=True),
                    self._vector(f"blk.{i}.attn_k_norm", head_dim, optional=True),
                    self._vector(f"blk.{i}.ffn_norm", hidden),
                    *(self._matrix(f"blk.{i}.{name}", *size) for name, size in sizes.items()),
                )
                for i in range(num_layers)
            )
        )
        self._kept.append(layers)
        embedding = self._tensor("token_embd.weight")
        vocab = int(embedding.shape[1])
        head_name = "output" if "output.weight" in self._tensors else "token_embd"
        max_positions = self._arch_key("context_length")
        inv_freq = self._inv_freq(head_dim)
        angles = torch.outer(torch.arange(max_positions, dtype=torch.float32), inv_freq)
        structure = structures.Model(
            hidden,
            intermediate,
            vocab,
            num_layers,
            num_heads,
            num_kv,
            head_dim,
            int(FAMILIES[self._arch]),
            self._arch_key("attention.layer_norm_rms_epsilon"),
            self._keep(angles.cos().numpy()),
            self._keep(angles.sin().numpy()),
            self._vector("output_norm", hidden),
            self._matrix(head_name, vocab, hidden),
            layers,
        )
        shape = Shape(
            vocab_size=vocab,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv,
            head_dim=head_dim,
            rms_norm_eps=self._arch_key("attention.layer_norm_rms_epsilon"),
            max_positions=max_positions,
        )
        return PackedModel(
            structure,
            shape,
            self._fingerprint(num_layers - 1, num_heads, head_dim),
            inv_freq,
            self._kept,
            embedding,
            self._tensors[f"{head_name}.weight"],
        )

    def _key(self, name: str, default: Any = None) -> Any:
        found = self._reader.get_field(name)
        if found is None and default is None:
            raise EdgeAIError(f"{self._path} has no key '{name}'")
        return default if found is None else found.contents()

    def _arch_key(self, name: str, default: Any = None) -> Any:
        return self._key(f"{self._arch}.{name}", default)

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            raise EdgeAIError(f"{self._path} has no tensor '{name}'")
        return self._tensors[name]

    def _keep(self, array: Array) -> int:
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return int(array.ctypes.data)

    def _vector(self, name: str, size: int, *, optional: bool = False) -> int | None:
        if optional and f"{name}.weight" not in self._tensors:
            return None
        return self._floats(f"{name}.weight", size)

    def _floats(self, name: str, size: int) -> int:
        data = _dequantized(self._tensor(name), slice(None)).reshape(-1)
        if data.shape != (size,):
            raise EdgeAIError(f"{self._path}: tensor '{name}' has {data.size} values, not {size}")
        return self._keep(np.pad(data, (0, -size % 16)))

    def _matrix(self, name: str, n: int, k: int) -> structures.Matrix:
        tensor = self._tensor(f"{name}.weight")
        shape = tuple(map(int, tensor.shape))
        if shape != (k, n):
            raise EdgeAIError(f"{self._path}: tensor '{name}.weight' has the shape {shape[::-1]}, not {(n, k)}")
        kind = self._handle.edgeai_kind(int(tensor.tensor_type))
        if kind < 0:
            raise Unavailable(f"tensor '{name}.weight' has the type {tensor.tensor_type.name}")
        packed = np.zeros(self._handle.edgeai_packed_bytes(kind, n, k), dtype=np.uint8)
        raw = np.ascontiguousarray(tensor.data)
        self._handle.edgeai_pack(
            int(tensor.tensor_type), ctypes.c_void_p(raw.ctypes.data), n, k, ctypes.c_void_p(packed.ctypes.data)
        )
        bias = self._floats(f"{name}.bias", n) if f"{name}.bias" in self._tensors else None
        return structures.Matrix(kind, n, k, self._keep(packed), bias)

    def _inv_freq(self, head_dim: int) -> torch.Tensor:
        scaling = self._arch_key("rope.scaling.type", "none")
        steps = torch.arange(0, head_dim, 2, dtype=torch.float32)
        inv_freq = 1.0 / (float(self._arch_key("rope.freq_base", 10000.0)) ** (steps / head_dim))
        if scaling == "linear":
            inv_freq = inv_freq / float(self._arch_key("rope.scaling.factor"))
        elif scaling != "none":
            raise Unavailable(f"rotary scaling of the type '{scaling}'")
        if "rope_freqs.weight" in self._tensors:  # Llama 3: one divisor per pair
            inv_freq = inv_freq / torch.from_numpy(_dequantized(self._tensor("rope_freqs.weight"), slice(None)))
        return inv_freq

    def _fingerprint(self, last: int, num_heads: int, head_dim: int) -> str:
        """The fingerprint of the same model in torch, from three tensors."""
        q = _dequantized(self._tensor(f"blk.{last}.attn_q.weight"), slice(None))
        if FAMILIES[self._arch]:  # back to pairs (i, i + hd / 2)
            q = q.reshape(num_heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(q.shape)
        weights = (
            _dequantized(self._tensor("token_embd.weight"), slice(None)),
            _dequantized(self._tensor(f"blk.{last}.ffn_down.weight"), slice(None)),
            q,
        )
        sample = torch.cat([torch.from_numpy(np.ascontiguousarray(w)).flatten()[::1009] for w in weights])
        data = sample.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
        return hashlib.sha256(data).hexdigest()[:16]


def _dequantized(tensor: Any, rows: Any) -> Array:
    """Rows of a tensor, float32."""
    from gguf import quants

    return np.array(quants.dequantize(tensor.data[rows], tensor.tensor_type), dtype=np.float32, order="C")
