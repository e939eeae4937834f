"""Quantizing a Hugging Face checkpoint at load: a GGUF file in the cache, written once.

Groups of 32 weights share a scale (`q8`: 8 bits, symmetric) or a scale and a minimum (`q4`: 4 bits). Of several trial
scales, each refined by least squares, the one with the smallest squared error is taken. With `q4` the embedding and the
output matrix have 8 bits: most of what 4 bits cost there is spared for little more memory.

Shapes: hd head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.native import rotary
from edgeai.spec.target.native.checkpoint import Checkpoint
from edgeai.spec.target.native.gguf_header import TensorInfo, quoted
from edgeai.spec.target.native.library import Library, Unavailable
from edgeai.spec.target.native.packed_model import Hyperparameters

Array = np.ndarray
Bits = Literal["q8", "q4"]
VERSION = 1
"""Enters the key of the cached file: raise it when the same weights are quantized differently."""
_GROUP = 32
_FORMATS = {"q8": ("Q8_0", 34, "edgeai_quantize_q8"), "q4": ("Q4_1", 20, "edgeai_quantize_q4")}
_EIGHT_BITS = ("token_embd.weight", "output.weight")


def write_quantized(
    checkpoint: Checkpoint, sizes: Hyperparameters, bits: Bits, path: Path, library: Library, *, threads: int
) -> None:
    """Write a checkpoint as a GGUF file of the architecture llama, tensor by tensor.

    Args:
        checkpoint: Weights.
        sizes: Sizes and constants.
        bits: Width of the weights.
        path: The file to write.
        library: The compiled library.
        threads: Number of threads.

    Raises:
        EdgeAIError: A weight is not finite.
        Unavailable: The sizes are not multiples of 32.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    sizes.check()
    writer = GGUFWriter(path, "llama")
    _write_keys(writer, sizes)
    tensors = list(checkpoint.tensors.values())
    for info in tensors:
        if len(info.shape) == 1:
            writer.add_tensor_info(info.name, info.shape, np.dtype(np.float32), 4 * info.shape[0])
        else:
            name, num_bytes, _ = _FORMATS[_bits_of(info, bits)]
            if info.shape[-1] % _GROUP:
                raise Unavailable(f"the tensor {quoted(info.name)} has the shape {info.shape}")
            packed = (*info.shape[:-1], info.shape[-1] // _GROUP * num_bytes)
            kind = GGMLQuantizationType[name]
            writer.add_tensor_info(info.name, packed, np.dtype(np.uint8), int(np.prod(packed)), raw_dtype=kind)
    divisors = rotary.plain(10000.0, sizes.head_dim) / sizes.rotary.inv_freq
    writer.add_tensor_info("rope_freqs.weight", divisors.shape, np.dtype(np.float32), divisors.nbytes)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for info in tensors:
            writer.write_tensor_data(_converted(checkpoint, info, sizes, bits, library, threads))
        writer.write_tensor_data(divisors)
    finally:
        writer.close()


def _write_keys(writer: Any, sizes: Hyperparameters) -> None:
    writer.add_block_count(sizes.num_layers)
    writer.add_context_length(sizes.max_positions)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.intermediate)
    writer.add_head_count(sizes.num_heads)
    writer.add_head_count_kv(sizes.num_kv_heads)
    writer.add_key_length(sizes.head_dim)
    writer.add_value_length(sizes.head_dim)
    writer.add_layer_norm_rms_eps(sizes.eps)
    writer.add_rope_freq_base(10000.0)  # the frequencies themselves are in rope_freqs
    writer.add_rope_scaling_attn_factors(sizes.rotary.attention_factor)


def _bits_of(info: TensorInfo, bits: Bits) -> Bits:
    return "q8" if info.name in _EIGHT_BITS else bits


def _converted(
    checkpoint: Checkpoint, info: TensorInfo, sizes: Hyperparameters, bits: Bits, library: Library, threads: int
) -> Array:
    """A tensor as it is stored, with rotary pairs side by side."""
    values = checkpoint.floats(info)
    for part, heads in (("attn_q", sizes.num_heads), ("attn_k", sizes.num_kv_heads)):
        if f".{part}." in info.name:
            pairs = values.reshape(heads, 2, sizes.head_dim // 2, -1).swapaxes(1, 2)
            values = np.ascontiguousarray(pairs).reshape(values.shape)
    if values.ndim == 1:
        return values
    try:
        return quantize(values, _bits_of(info, bits), library, threads=threads)
    except ValueError as error:
        raise EdgeAIError(f"{checkpoint.name}: the tensor {quoted(info.name)} has {error}") from error


def quantize(values: Array, bits: Bits, library: Library, *, threads: int) -> Array:
    """Quantize a matrix [n, k] of float32 to its rows as GGUF stores them [n, bytes of a row].

    Raises:
        ValueError: A value is not finite.
    """
    _, num_bytes, function = _FORMATS[bits]
    call: Callable[..., int] = getattr(library.handle, function)
    n, groups = values.shape[0], values.shape[1] // _GROUP
    out = np.empty((n, groups * num_bytes), np.uint8)

    def run(begin: int, end: int) -> int:
        part = np.ascontiguousarray(values[begin:end], dtype=np.float32)
        to = ctypes.c_void_p(out.ctypes.data + begin * groups * num_bytes)
        return call(ctypes.c_void_p(part.ctypes.data), ctypes.c_int64(len(part) * groups), to)

    step = max(1, (1 << 15) // groups)
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(lambda begin: run(begin, min(begin + step, n)), range(0, n, step)))
    if any(done):
        raise ValueError("values that are not finite")
    return out
