"""A decoder with packed weights.

Shapes: N tokens, V vocabulary, H hidden, hd head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeai.spec.target.checks.fingerprint import Fingerprint, digest, sample_positions, version_1_digest
from edgeai.spec.target.native import structures
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.native.rotary import Rotary, RotaryTable
from edgeai.spec.target.protocol import Shape

Array = np.ndarray
MAX_GROUP = 64  # query heads that share a key head
_SAMPLED = 1009  # every so many weights enter version 1 of the fingerprint
_ROWS = 4096  # dequantized at a time


@dataclass(frozen=True)
class Hyperparameters:
    """Sizes and constants of a decoder."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    max_positions: int
    rotary: Rotary
    is_interleaved: bool
    """Rotary pairs are (2 i, 2 i + 1) instead of (i, i + hd / 2)."""

    def check(self) -> None:
        """Check that the native runtime can run these sizes.

        Raises:
            Unavailable: It cannot; names the sizes.
        """
        if self.num_heads % self.num_kv_heads or self.num_heads // self.num_kv_heads > MAX_GROUP:
            raise Unavailable(f"it has {self.num_heads} query heads on {self.num_kv_heads} key heads")
        if self.head_dim % 16 or self.hidden % 32 or self.intermediate % 32 or self.num_heads * self.head_dim % 32:
            raise Unavailable(
                f"it has heads of width {self.head_dim}, {self.hidden} hidden and {self.intermediate} intermediate "
                "sizes; multiples of 16, 32 and 32 are needed"
            )

    def shape(self, vocab: int) -> Shape:
        """The shape as `Target` describes it."""
        return Shape(
            vocab_size=vocab,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            rms_norm_eps=self.eps,
            max_positions=self.max_positions,
        )


class PackedModel:
    """Packed weights, and what holds their memory.

    Args:
        library: The compiled library.
        sizes: Sizes and constants.
        embedding: Embedding [V, H].
        lm_head: Output matrix [V, H]; of the same data as `embedding` if they are tied.
        final_norm: Address of the last norm's weights.
        layers: Structures of the layers.
        kept: Arrays to which the structures point.
    """

    def __init__(
        self,
        *,
        library: Library,
        sizes: Hyperparameters,
        embedding: structures.Matrix,
        lm_head: structures.Matrix,
        final_norm: int,
        layers: ctypes.Array[structures.Layer],
        kept: Sequence[object],
    ) -> None:
        self._handle, self._embedding, self._lm_head = library.handle, embedding, lm_head
        self._kept, self._table = (kept, layers), RotaryTable(sizes.rotary)
        self.rotary = sizes.rotary
        self.shape = sizes.shape(embedding.n)
        self.structure = structures.Model(
            sizes.hidden,
            sizes.intermediate,
            embedding.n,
            sizes.num_layers,
            sizes.num_heads,
            sizes.num_kv_heads,
            sizes.head_dim,
            int(sizes.is_interleaved),
            sizes.eps,
            *self._table_addresses(),
            final_norm,
            lm_head,
            layers,
        )
        self.fingerprint = self._fingerprint(final_norm, list(layers))

    @property
    def is_tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return bool(self._embedding.data == self._lm_head.data)

    @property
    def embedding_matrix(self) -> structures.Matrix:
        """Packed embedding [V, H]."""
        return self._embedding

    def reserve_positions(self, num_positions: int) -> None:
        """Extend the rotary tables: passes may use positions below this one."""
        if self._table.reserve(num_positions):
            self.structure.cos, self.structure.sin = self._table_addresses()

    def embed(self, ids: Array) -> Array:
        """Embeddings of tokens [N, H], float32."""
        return self._rows(self._embedding, np.ascontiguousarray(ids, dtype=np.int64))

    def embedding(self, dtype: torch.dtype) -> torch.Tensor:
        """The whole embedding [V, H], dequantized."""
        return self._whole(self._embedding, dtype)

    def lm_head(self, dtype: torch.dtype) -> torch.Tensor:
        """The whole output matrix [V, H], dequantized."""
        return self._whole(self._lm_head, dtype)

    def _table_addresses(self) -> tuple[int, int]:
        cos, sin = self._table.current
        return int(cos.ctypes.data), int(sin.ctypes.data)

    def _rows(self, matrix: structures.Matrix, rows: Array) -> Array:
        out = np.empty((len(rows), matrix.k), np.float32)
        self._handle.edgeai_rows(
            ctypes.byref(matrix),
            ctypes.c_void_p(rows.ctypes.data),
            ctypes.c_int64(len(rows)),
            ctypes.c_void_p(out.ctypes.data),
        )
        return out

    def _whole(self, matrix: structures.Matrix, dtype: torch.dtype) -> torch.Tensor:
        whole = torch.empty(matrix.n, matrix.k, dtype=dtype)
        for begin in range(0, matrix.n, _ROWS):
            rows = np.arange(begin, min(begin + _ROWS, matrix.n))
            whole[begin : begin + _ROWS] = torch.from_numpy(self._rows(matrix, rows))
        return whole

    def _fingerprint(self, final_norm: int, layers: Sequence[structures.Layer]) -> Fingerprint:
        """The fingerprint of the same model on the torch runtime, from the values that it samples."""
        last = layers[-1]
        former = [self._values(matrix, _every(matrix)) for matrix in (self._embedding, last.down)]
        former.append(self._values(last.q, _every(last.q), self._interleaved(self.shape.num_heads)))
        return Fingerprint(
            digest(self._samples(final_norm, layers)), version_1_digest(torch.from_numpy(np.concatenate(former)))
        )

    def _samples(self, final_norm: int, layers: Sequence[structures.Layer]) -> Iterator[tuple[str, int, Array]]:
        """Name, size and sampled values of every tensor, in the order of `tensor_names`."""
        shape = self.shape
        yield from self._of_matrix("model.embed_tokens", self._embedding)
        if not self.is_tied:
            yield from self._of_matrix("lm_head", self._lm_head)
        yield from _of_vector("model.norm.weight", final_norm, shape.hidden_size)
        for index, layer in enumerate(layers):
            at = f"model.layers.{index}."
            yield from _of_vector(f"{at}input_layernorm.weight", layer.attention_norm, shape.hidden_size)
            yield from _of_vector(f"{at}self_attn.q_norm.weight", layer.q_norm, shape.head_dim)
            yield from _of_vector(f"{at}self_attn.k_norm.weight", layer.k_norm, shape.head_dim)
            yield from _of_vector(f"{at}post_attention_layernorm.weight", layer.mlp_norm, shape.hidden_size)
            yield from self._of_matrix(f"{at}self_attn.q_proj", layer.q, self._interleaved(shape.num_heads))
            yield from self._of_matrix(f"{at}self_attn.k_proj", layer.k, self._interleaved(shape.num_kv_heads))
            yield from self._of_matrix(f"{at}self_attn.v_proj", layer.v)
            yield from self._of_matrix(f"{at}self_attn.o_proj", layer.out)
            yield from self._of_matrix(f"{at}mlp.gate_proj", layer.gate)
            yield from self._of_matrix(f"{at}mlp.up_proj", layer.up)
            yield from self._of_matrix(f"{at}mlp.down_proj", layer.down)

    def _interleaved(self, heads: int) -> int:
        return heads if self.structure.interleaved else 0

    def _of_matrix(self, name: str, matrix: structures.Matrix, heads: int = 0) -> Iterator[tuple[str, int, Array]]:
        size = matrix.n * matrix.k
        yield f"{name}.weight", size, self._values(matrix, sample_positions(size), heads)
        yield from _of_vector(f"{name}.bias", matrix.bias, matrix.n, heads)

    def _values(self, matrix: structures.Matrix, positions: Array, heads: int = 0) -> Array:
        """Values of a flattened matrix; with `heads`, of rows in the order of rotary pairs (i, i + hd / 2)."""
        rows, columns = np.divmod(positions, matrix.k)
        rows = _paired_rows(rows, matrix.n, heads)
        out = np.empty(len(rows), np.float32)
        self._handle.edgeai_values(
            ctypes.byref(matrix),
            ctypes.c_void_p(rows.ctypes.data),
            ctypes.c_void_p(columns.ctypes.data),
            ctypes.c_int64(len(rows)),
            ctypes.c_void_p(out.ctypes.data),
        )
        return out


def _every(matrix: structures.Matrix) -> Array:
    """The positions that version 1 of the fingerprint samples."""
    return np.arange(0, matrix.n * matrix.k, _SAMPLED, dtype=np.int64)


def _of_vector(name: str, address: int | None, size: int, heads: int = 0) -> Iterator[tuple[str, int, Array]]:
    """The sample of a vector in float32; nothing if the model has none."""
    if address:
        values = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
        yield name, size, values[_paired_rows(sample_positions(size), size, heads)]


def _paired_rows(rows: Array, num_rows: int, heads: int) -> Array:
    """The places of rows in a matrix whose rotary pairs are (2 i, 2 i + 1); without `heads`, the rows themselves."""
    if not heads:
        return rows
    width = num_rows // heads
    head, row = np.divmod(rows, width)
    half, pair = np.divmod(row, width // 2)
    return np.asarray(head * width + 2 * pair + half)
