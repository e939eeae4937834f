"""Saving and loading draft heads: the EAGLE-3 file layout (config.json and model.safetensors) with an `edgeai` entry.

The `edgeai` entry of config.json names the target of the head. A folder without it is from another tool and is
converted (`formats/read_published.py`); `edgeai spec export` writes the formats of other servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from edgeai.core.checkpoint import replacing_files
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.head_checks import check_target, check_tensors
from edgeai.spec.draft.head_files import CONFIG, WEIGHTS, read_files, unreadable_head, write_files
from edgeai.spec.draft.rope import rope_of
from edgeai.spec.formats.read_published import read_foreign
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class HeadInfo:
    """Origin of a head."""

    target: str
    fingerprint: str
    metrics: Mapping[str, float]
    """Validation results at the time of saving."""
    dtype: torch.dtype = torch.bfloat16
    """Number format of the weight file."""
    format: str = "edgeai"
    """File format, named after its tool."""


def save_head(
    folder: Path,
    head: DraftHead,
    target: Target,
    metrics: Mapping[str, float],
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a head atomically.

    Args:
        folder: Folder of the head; an existing head is replaced.
        head: Trained head.
        target: Target of the head.
        metrics: Validation results.
        dtype: Number format of the weight file.

    Raises:
        EdgeAIError: The disk is full.
    """
    s = head.shape
    config = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": s.hidden_size,
        "target_hidden_size": s.target_hidden_size,
        "intermediate_size": s.intermediate_size,
        "num_attention_heads": s.num_heads,
        "num_key_value_heads": s.num_kv_heads,
        "head_dim": s.head_dim,
        "num_hidden_layers": 1,
        "hidden_act": "silu",
        "rms_norm_eps": s.rms_norm_eps,
        "vocab_size": s.vocab_size,
        "draft_vocab_size": s.draft_vocab_size,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "fc_norm": s.fc_norm,
        "norm_output": s.norm_output,
        "norm_before_residual": s.norm_before_residual,
        "eagle_aux_hidden_state_layer_ids": list(s.aux_layers),
        **(s.rope.to_config() if s.rope else {}),
        "edgeai": {"target": target.name, "fingerprint": target.fingerprint, "metrics": dict(metrics)},
    }
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in head.state_dict().items()
    }
    with replacing_files(folder, (WEIGHTS, CONFIG)) as partial:
        write_files(partial, config, tensors)


def load_head(path: Path, target: Target) -> tuple[DraftHead, HeadInfo]:
    """Load a head for a target, in the edgeai format or another tool's.

    Args:
        path: Checkpoint folder, or run directory of `spec train` (the best head is loaded).
        target: Target to draft for.

    Raises:
        UsageError: There is no head, or it was trained for another target or vocabulary.
    """
    files = read_files(path)
    try:
        if files.is_own:
            shape, tensors, called = _shape(files.config, target), files.tensors, "edgeai"
        else:
            foreign = read_foreign(files.folder, files.config, files.tensors, target)
            shape, tensors, called = foreign.shape, foreign.tensors, foreign.format
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable_head(files.folder, error) from error
    check_target(files, shape, target)
    check_tensors(files.folder, tensors, shape)
    head = DraftHead(shape, tensors.get("d2t"))  # t2d follows from d2t; without d2t the first tokens are drafted
    head.load_state_dict({**head.state_dict(), **tensors, "t2d": head.t2d})
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()))
    note = files.note
    info = HeadInfo(files.target_name, str(note.get("fingerprint", "")), note.get("metrics", {}), dtype, called)
    return head.to(target.device), info


def _shape(config: Mapping[str, Any], target: Target) -> HeadShape:
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    aux = config.get("eagle_aux_hidden_state_layer_ids") or target.aux_layers
    return HeadShape(
        hidden_size=hidden,
        target_hidden_size=int(config.get("target_hidden_size") or hidden),
        intermediate_size=int(config["intermediate_size"]),
        num_heads=heads,
        num_kv_heads=int(config["num_key_value_heads"]),
        head_dim=int(config.get("head_dim") or hidden // heads),
        rms_norm_eps=float(config["rms_norm_eps"]),
        vocab_size=int(config["vocab_size"]),
        draft_vocab_size=int(config["draft_vocab_size"]),
        aux_layers=tuple(int(layer) for layer in aux),
        fc_norm=bool(config.get("fc_norm", False)),
        norm_output=bool(config.get("norm_output", False)),
        norm_before_residual=bool(config.get("norm_before_residual", False)),
        rope=rope_of(config, of="the head") if "rope_theta" in config else None,
    )
