"""From the tensors of a checkpoint to a packed model: read in parts, packed by several threads, never dequantized.

Shapes: V vocabulary, H hidden, hd head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native import structures
from edgeai.spec.target.native.gguf_header import TYPES, TensorInfo, quoted
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.native.packed_model import Hyperparameters, PackedModel

Array = np.ndarray
_PART_BYTES = 4 << 20  # read and packed at a time
_LANES = 16  # outputs of a block: parts begin at multiples of it
_FLOATS = {"F32": np.float32, "F16": np.float16}
_MAX_SIZE = 1 << 24  # of a matrix: sizes stay far from the limits of 32 bits


class Source(Protocol):
    """Tensors of a checkpoint, named as in GGUF files."""

    name: str
    """Path for messages."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Tensors by name."""

    def read(self, tensor: TensorInfo, first: int, count: int) -> Array:
        """Read rows as they are stored [count, bytes of a row], uint8; called from several threads."""


def pack_model(source: Source, sizes: Hyperparameters, library: Library, *, threads: int) -> PackedModel:
    """Pack the weights of a decoder.

    Args:
        source: Tensors of the checkpoint.
        sizes: Sizes and constants.
        library: The compiled library.
        threads: Number of threads.

    Raises:
        EdgeAIError: A tensor is missing or has the wrong shape.
        Unavailable: A tensor, type or size is not supported.
    """
    sizes.check()
    packer = _Packer(source, library)
    embedding = packer.embedding(sizes.hidden)
    vocab = embedding.n
    lm_head = packer.matrix("output", vocab, sizes.hidden) if "output.weight" in source.tensors else embedding
    final_norm = packer.vector("output_norm.weight", sizes.hidden)
    layers = [_layer(packer, f"blk.{index}.", sizes) for index in range(sizes.num_layers)]
    packer.check_all_used()
    packer.run(threads)
    return PackedModel(
        library=library,
        sizes=sizes,
        embedding=embedding,
        lm_head=lm_head,
        final_norm=final_norm,
        layers=(structures.Layer * len(layers))(*layers),
        kept=packer.kept,
    )


def _layer(packer: _Packer, at: str, sizes: Hyperparameters) -> structures.Layer:
    q_width, kv_width = sizes.num_heads * sizes.head_dim, sizes.num_kv_heads * sizes.head_dim
    return structures.Layer(
        packer.vector(f"{at}attn_norm.weight", sizes.hidden),
        packer.optional_vector(f"{at}attn_q_norm.weight", sizes.head_dim),
        packer.optional_vector(f"{at}attn_k_norm.weight", sizes.head_dim),
        packer.vector(f"{at}ffn_norm.weight", sizes.hidden),
        packer.matrix(f"{at}attn_q", q_width, sizes.hidden),
        packer.matrix(f"{at}attn_k", kv_width, sizes.hidden),
        packer.matrix(f"{at}attn_v", kv_width, sizes.hidden),
        packer.matrix(f"{at}attn_output", sizes.hidden, q_width),
        packer.matrix(f"{at}ffn_gate", sizes.intermediate, sizes.hidden),
        packer.matrix(f"{at}ffn_up", sizes.intermediate, sizes.hidden),
        packer.matrix(f"{at}ffn_down", sizes.hidden, sizes.intermediate),
    )


class _Packer:
    """Checks every tensor first; only then are matrices read."""

    def __init__(self, source: Source, library: Library) -> None:
        self._source, self._handle = source, library.handle
        self._unused = set(source.tensors)
        self._jobs: list[Callable[[], None]] = []
        self.kept: list[object] = []
        """Arrays whose memory the structures point to."""

    def embedding(self, hidden: int) -> structures.Matrix:
        """The embedding, whose first size is the vocabulary's."""
        info = self._info("token_embd.weight")
        return self.matrix("token_embd", info.shape[0] if len(info.shape) == 2 else 0, hidden)

    def matrix(self, name: str, n: int, k: int) -> structures.Matrix:
        """A matrix [n, k] with its bias, packed by `run`."""
        info = self._info(f"{name}.weight")
        if info.shape != (n, k):
            raise self._wrong_shape(info, (n, k))
        if max(n, k) > _MAX_SIZE:
            raise Unavailable(f"the tensor {quoted(info.name)} has the shape {info.shape}")
        kind = self._handle.edgeai_kind(info.type) if info.type in TYPES else -1
        if kind < 0:
            raise Unavailable(f"the tensor {quoted(info.name)} has the type {info.type_name}")
        packed = np.zeros(self._handle.edgeai_packed_bytes(kind, n, k), dtype=np.uint8)
        self._jobs += self._packing(info, packed, self._handle.edgeai_packed_bytes(kind, _LANES, k))
        return structures.Matrix(kind, n, k, self._keep(packed), self.optional_vector(f"{name}.bias", n))

    def vector(self, name: str, size: int) -> int:
        """Address of a vector in float32, padded with zeros to whole blocks of 16."""
        info = self._info(name)
        if info.shape != (size,):
            raise self._wrong_shape(info, (size,))
        values = read_floats(self._source, info)
        return self._keep(np.pad(values, (0, -size % _LANES)))

    def optional_vector(self, name: str, size: int) -> int | None:
        """As `vector`; None if the checkpoint has none."""
        return self.vector(name, size) if name in self._source.tensors else None

    def check_all_used(self) -> None:
        """Check that the checkpoint has no other tensors: a model with them computes something else."""
        rest = sorted(self._unused - {"rope_freqs.weight"})
        if rest:
            raise Unavailable(f"it has unsupported tensors: {', '.join(map(quoted, rest[:3]))}")

    def run(self, threads: int) -> None:
        """Read and pack the matrices."""
        jobs, self._jobs = self._jobs, []
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(job) for job in jobs]:
                done.result()

    def _packing(self, info: TensorInfo, packed: Array, block_bytes: int) -> Iterator[Callable[[], None]]:
        n, k = info.shape
        step = max(_PART_BYTES // info.row_bytes // _LANES, 1) * _LANES

        def pack(first: int) -> None:
            raw = self._source.read(info, first, min(step, n - first))
            assert raw.shape == (min(step, n - first), info.row_bytes)
            assert raw.flags.c_contiguous
            self._handle.edgeai_pack(
                info.type,
                ctypes.c_void_p(raw.ctypes.data),
                len(raw),
                k,
                ctypes.c_void_p(packed.ctypes.data + first // _LANES * block_bytes),
            )

        return (lambda first=first: pack(first) for first in range(0, n, step))  # type: ignore[misc]

    def _info(self, name: str) -> TensorInfo:
        if name not in self._source.tensors:
            raise EdgeAIError(f"{self._source.name} has no tensor '{name}'")
        self._unused.discard(name)
        return self._source.tensors[name]

    def _keep(self, array: Array) -> int:
        self.kept.append(array)
        return int(array.ctypes.data)

    def _wrong_shape(self, info: TensorInfo, wanted: tuple[int, ...]) -> EdgeAIError:
        return EdgeAIError(
            f"{self._source.name}: the tensor {quoted(info.name)} has the shape {info.shape}, not {wanted}"
        )


def read_floats(source: Source, info: TensorInfo) -> Array:
    """Read a vector in float32.

    Raises:
        Unavailable: It is quantized.
        EdgeAIError: It has values that are not finite.
    """
    raw = source.read(info, 0, 1).reshape(-1) if info.type in TYPES else None
    if raw is not None and info.type_name in _FLOATS:
        values = raw.view(_FLOATS[info.type_name]).astype(np.float32)
    elif raw is not None and info.type_name == "BF16":
        values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        raise Unavailable(f"the tensor {quoted(info.name)} has the type {info.type_name}")
    if not np.isfinite(values).all():
        raise EdgeAIError(f"{source.name}: the tensor {quoted(info.name)} has values that are not finite")
    return values
