"""The check that a converted GGUF file is what the file describes: transformers ignores tensors and keys."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from edgeai.core.errors import EdgeAIError
from edgeai.spec.target.checks.tensors import check_tensors
from edgeai.spec.target.conversion import rotary_of, shape_of
from edgeai.spec.target.native.checkpoint import gguf_name, weight_files
from edgeai.spec.target.native.gguf_header import Header
from edgeai.spec.target.native.packed_model import Hyperparameters

_HINT = "use -s target.runtime=native, which reads the file as it is"


def check_conversion(name: str, folder: Path, config: Any, header: Header, sizes: Hyperparameters) -> None:
    """Check a converted file.

    Args:
        name: Name of the file in messages.
        folder: Folder with the converted weights.
        config: Its config as parsed by transformers.
        header: Header of the GGUF file.
        sizes: Sizes and constants of the GGUF file.

    Raises:
        EdgeAIError: Tensors, sizes or rotary frequencies differ, or the folder is damaged.
    """
    model = {gguf_name(name): shape for name, shape in _stored_shapes(folder).items()}
    if config.tie_word_embeddings:
        model.pop("output.weight", None)
    file = {name: info.shape for name, info in header.tensors.items() if name != "rope_freqs.weight"}
    check_tensors(file, model, name)
    ours = sizes.shape(config.vocab_size)
    theirs = replace(shape_of(config, vocab_size=config.vocab_size), max_positions=ours.max_positions)
    if not math.isclose(theirs.rms_norm_eps, ours.rms_norm_eps, rel_tol=1e-6):
        raise EdgeAIError(f"transformers reads another epsilon from the GGUF file: {theirs.rms_norm_eps}", hint=_HINT)
    if replace(theirs, rms_norm_eps=ours.rms_norm_eps) != ours:
        raise EdgeAIError("transformers reads other sizes from the GGUF file", hint=_HINT)
    inv_freq, factor = rotary_of(config)
    rotary = sizes.rotary
    is_equal = inv_freq.shape == rotary.inv_freq.shape and np.allclose(inv_freq, rotary.inv_freq, rtol=1e-5, atol=0)
    if not is_equal or not math.isclose(factor, rotary.attention_factor, rel_tol=1e-6):
        raise EdgeAIError("transformers does not read the scaling of the rotary embedding of GGUF files", hint=_HINT)


def _stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EdgeAIError(f"cannot read the weights of {folder}: {str(error).splitlines()[0]}") from error
    return shapes
