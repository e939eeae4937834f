"""Draft heads on disk: EAGLE-3's own file layout (config.json + model.safetensors), plus what edgeai wants to know.

config.json holds the fields SGLang, vLLM and EAGLE read; the `edgeai` entry names the target the head belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.head import DraftHead, HeadShape
from edgeai.spec.target import Target

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SHIPPED = Path(__file__).parent / "heads"


@dataclass(frozen=True)
class HeadInfo:
    """Where a head comes from."""

    target: str
    fingerprint: str
    metrics: Mapping[str, float]
    """Validation results at the time of saving."""


def save_head(folder: Path, head: DraftHead, target: Target, metrics: Mapping[str, float]) -> None:
    """Write a head in bfloat16; a reader never sees half of it.

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
        "torch_dtype": "bfloat16",
        "fc_norm": s.fc_norm,
        "norm_output": s.norm_output,
        "norm_before_residual": s.norm_before_residual,
        "eagle_aux_hidden_state_layer_ids": list(s.aux_layers),
        "edgeai": {"target": target.name, "fingerprint": target.fingerprint, "metrics": dict(metrics)},
    }
    tensors = {
        name: (tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in head.state_dict().items()
    }
    partial = folder.with_name(folder.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for name in (WEIGHTS, CONFIG):
            (partial / name).replace(folder / name)
        partial.rmdir()
    except (OSError, SafetensorError) as error:
        raise EdgeAIError(
            f"cannot write {folder}: {error}", hint="free some space, then continue with --resume"
        ) from error


def load_head(path: Path, target: Target) -> tuple[DraftHead, HeadInfo]:
    """Read a head for a target.

    Args:
        path: Checkpoint folder, or a run directory of `spec train` (its best checkpoint is taken).
        target: The model the head shall draft for.

    Raises:
        UsageError: No head there, or it belongs to another target or vocabulary.
    """
    folder = find_head(path)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        shape = _shape(config, target)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"{folder} holds no readable draft head: {error}", hint="train one: edgeai spec train"
        ) from error
    info = _check_target(folder, config, shape, target)
    _check_tensors(folder, tensors, shape)
    head = DraftHead(shape, tensors.get("d2t"))  # t2d follows from d2t; without d2t the first tokens are drafted
    head.load_state_dict({**head.state_dict(), **tensors, "t2d": head.t2d})
    return head.to(target.device), info


def find_head(path: Path) -> Path:
    """The checkpoint folder behind a path: itself, the best (else last) one of a run, or a shipped one by its name."""
    for folder in (path, path / "best", path / "last", SHIPPED / path):
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    raise UsageError(
        f"no draft head in {path}", hint="give a checkpoint folder or a run directory of `edgeai spec train`"
    )


def shipped_head(target: Target) -> Path | None:
    """The head that comes with edgeai for exactly these target weights, if there is one."""
    for file in sorted(SHIPPED.glob(f"*/{CONFIG}")):
        if json.loads(file.read_text(encoding="utf-8"))["edgeai"]["fingerprint"] == target.fingerprint:
            return file.parent
    return None


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
    )


def _check_target(folder: Path, config: Mapping[str, Any], shape: HeadShape, target: Target) -> HeadInfo:
    """A head that does not fit would only draft nonsense, so every mismatch is an error that names both sides."""
    note = config.get("edgeai", {})
    info = HeadInfo(str(note.get("target", "")), str(note.get("fingerprint", "")), note.get("metrics", {}))
    hint = "give the target that the head was trained for, or train a head for this one"
    name = info.target or "a model"
    if shape.vocab_size != target.shape.vocab_size:
        raise UsageError(
            f"{folder} drafts for {name} with {shape.vocab_size} tokens, but {target.name} has "
            f"{target.shape.vocab_size}",
            hint=hint,
        )
    if shape.target_hidden_size != target.shape.hidden_size:
        raise UsageError(
            f"{folder} drafts for {name} of width {shape.target_hidden_size}, but {target.name} has width "
            f"{target.shape.hidden_size}",
            hint=hint,
        )
    if max(shape.aux_layers) >= target.shape.num_layers:
        raise UsageError(
            f"{folder} drafts for {name} from layer {max(shape.aux_layers)}, but {target.name} has "
            f"{target.shape.num_layers} layers",
            hint=hint,
        )
    if info.fingerprint and info.fingerprint != target.fingerprint:
        raise UsageError(
            f"{folder} was trained for {name} (weights {info.fingerprint}), not for {target.name} "
            f"(weights {target.fingerprint})",
            hint=hint,
        )
    return info


def _check_tensors(folder: Path, tensors: Mapping[str, Tensor], shape: HeadShape) -> None:
    """Names and shapes are those of the config; draft tokens are tokens of the target."""
    with torch.device("meta"):
        expected = DraftHead(shape).state_dict()
    problems = [f"no {name}" for name in expected if name not in tensors and name not in ("d2t", "t2d")]
    problems += [f"unknown {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensor.shape)}, not {list(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if not problems and "d2t" in tensors:
        kept = tensors["d2t"] + torch.arange(shape.draft_vocab_size)
        if int(kept.min()) < 0 or int(kept.max()) >= shape.vocab_size:
            problems.append(f"d2t leaves the {shape.vocab_size} tokens of the target")
    if problems:
        raise UsageError(
            f"{folder}: tensors do not match the head's config: {', '.join(sorted(problems)[:3])}",
            hint="take another checkpoint",
        )


def draft_vocabulary(counts: Tensor, size: int) -> Tensor:
    """Offsets d2t of the `size` most frequent tokens [D]; ties and unseen tokens fill up from the lowest ids.

    Args:
        counts: How often each target token was written by the target [V].
        size: Draft vocabulary D, at most V.
    """
    order = torch.argsort(counts, descending=True, stable=True)[:size]
    kept = order.sort().values
    return kept - torch.arange(kept.shape[0])
