"""Hugging Face checkpoints for the native runtime: weights as they are in the safetensors files, read in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.conversion import check_tied
from edgeai.spec.target.native.gguf_header import TensorInfo
from edgeai.spec.target.native.library import Unavailable
from edgeai.spec.target.native.packed_model import Hyperparameters
from edgeai.spec.target.native.rotary import Rotary
from edgeai.spec.target.protocol import Shape

Array = np.ndarray
_TYPES = {"F32": 0, "F16": 1, "BF16": 30}
_EMBEDDING, _LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"
_MODEL = {"embed_tokens": "token_embd", "norm": "output_norm"}
_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class Checkpoint:
    """Tensors of the safetensors files of a folder; see `packing.Source`.

    Args:
        folder: Model folder.
        files: Open files by tensor.
        is_tied: Whether the output matrix is the embedding.
    """

    def __init__(self, folder: Path, files: Mapping[str, Any], *, is_tied: bool) -> None:
        self.name = str(folder)
        self._slices: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shapes of all stored tensors by their names in transformers."""
        self.tensors: dict[str, TensorInfo] = {}
        for theirs, file in files.items():
            part = file.get_slice(theirs)
            self.shapes[theirs] = tuple(part.get_shape())
            if theirs.endswith("rotary_emb.inv_freq") or (is_tied and theirs == _LM_HEAD):
                continue
            kind = str(part.get_dtype())
            if kind not in _TYPES:
                raise Unavailable(f"the tensor '{theirs}' has the type {kind}")
            name = gguf_name(theirs)
            self.tensors[name] = TensorInfo(name, tuple(part.get_shape()), _TYPES[kind], 0)
            self._slices[name] = part

    def read(self, tensor: TensorInfo, first: int, count: int) -> Array:
        """See `packing.Source`."""
        part = self._slices[tensor.name]
        rows = part[first : first + count] if len(tensor.shape) > 1 else part[:][None]
        return np.asarray(rows.contiguous().view(torch.uint8).numpy())

    def floats(self, tensor: TensorInfo) -> Array:
        """The whole tensor, float32."""
        return np.asarray(self._slices[tensor.name][:].float().contiguous().numpy())


@contextmanager
def open_checkpoint(folder: Path, config: Any) -> Iterator[Checkpoint]:
    """Open the weights of a model folder.

    Args:
        folder: Folder with model.safetensors, or with several such files and their index.
        config: The model's config as parsed by transformers.

    Raises:
        EdgeAIError: The folder has no readable safetensors.
        Unavailable: The weights have an unsupported type.
    """
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(safe_open(path, framework="pt")) for path in weight_files(folder)]
            names = [tensor for file in files for tensor in file.keys()]  # noqa: SIM118 (not a mapping)
            tensors = {tensor: file for file in files for tensor in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise EdgeAIError(f"cannot read the weights of {folder}: {str(error).splitlines()[0]}") from error
        if len(tensors) < len(names):
            raise EdgeAIError(f"{folder} holds some tensors in several files")
        is_tied = bool(config.tie_word_embeddings)
        if is_tied and {_EMBEDDING, _LM_HEAD} <= set(tensors):
            check_tied(*(tensors[name].get_tensor(name) for name in (_EMBEDDING, _LM_HEAD)))
        yield Checkpoint(folder, tensors, is_tied=is_tied)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder.

    Raises:
        EdgeAIError: Their index is damaged.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [folder / Path(name).name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgeAIError(f"{index} is not a readable index of weights") from error


def gguf_name(name: str) -> str:
    """Return the name that a tensor has in GGUF files; unknown names stay."""
    stem, _, suffix = name.rpartition(".")
    if stem == "lm_head":
        return f"output.{suffix}"
    parts = stem.split(".")
    if parts[0] == "model" and len(parts) == 2 and parts[1] in _MODEL:
        return f"{_MODEL[parts[1]]}.{suffix}"
    rest = ".".join(parts[3:])
    if parts[:2] == ["model", "layers"] and rest in _LAYER:
        return f"blk.{parts[2]}.{_LAYER[rest]}.{suffix}"
    return name


def hyperparameters(config: Any, shape: Shape, rotary: Rotary) -> Hyperparameters:
    """Return the sizes and constants of a model.

    Args:
        config: The model's config as parsed by transformers.
        shape: The same as edgeai describes it.
        rotary: Frequencies.

    Raises:
        Unavailable: The activation is not supported.
    """
    if config.hidden_act != "silu":
        raise Unavailable(f"its activation is '{config.hidden_act}'")
    return Hyperparameters(
        hidden=shape.hidden_size,
        intermediate=shape.intermediate_size,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        eps=shape.rms_norm_eps,
        max_positions=shape.max_positions,
        rotary=rotary,
        is_interleaved=False,
    )
