"""Draft heads on disk: EAGLE-3's own file layout (config.json + model.safetensors), plus what edgeai wants to know.

The `edgeai` entry of config.json names the target the head belongs to. A folder without it comes from elsewhere and is
translated (`formats/foreign.py`); `edgeai spec export` writes what other servers read.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeai.core.checkpoint import replacing_files
from edgeai.core.errors import UsageError
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.rope import rope_of
from edgeai.spec.formats.foreign import read_foreign
from edgeai.spec.target.protocol import Target

WEIGHTS = "model.safetensors"
OLD_WEIGHTS = "pytorch_model.bin"  # as the EAGLE repository ships its heads
CONFIG = "config.json"
SHIPPED = Path(__file__).parent.parent / "heads"
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_INTEGERS = (torch.int64, torch.int32, torch.bool, torch.uint8)


@dataclass(frozen=True)
class HeadInfo:
    """Where a head comes from."""

    target: str
    fingerprint: str
    metrics: Mapping[str, float]
    """Validation results at the time of saving."""
    dtype: torch.dtype = torch.bfloat16
    """Number format of the file."""
    format: str = "edgeai"
    """Whose files they are."""


@dataclass(frozen=True)
class HeadFiles:
    """A head's folder as it is, before anything is made of it."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)
    note: Mapping[str, Any]
    """What edgeai wrote about the head: target, fingerprint, metrics; empty if somebody else's."""

    @property
    def is_own(self) -> bool:
        """Whether edgeai wrote it for itself."""
        return "edgeai" in self.config

    @property
    def target_name(self) -> str:
        """The model it says it drafts for, or ""."""
        group: Any = self.config
        for key in ("speculators_config", "verifier"):
            group = group.get(key) or {} if isinstance(group, dict) else {}
        return str(self.note.get("target") or group.get("name_or_path") or "")


def save_head(
    folder: Path,
    head: DraftHead,
    target: Target,
    metrics: Mapping[str, float],
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a head; a reader never sees half of it.

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


def write_files(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], note: Mapping[str, str] | None = None
) -> None:
    """Write config.json and the weights.

    Args:
        folder: Made if need be.
        config: Becomes config.json.
        tensors: Contiguous, on the CPU.
        note: Text kept in the weights' header, where loaders do not look.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS, {"format": "pt", **(note or {})})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_head(path: Path, target: Target) -> tuple[DraftHead, HeadInfo]:
    """Read a head for a target, in our files or another tool's.

    Args:
        path: Checkpoint folder, or a run directory of `spec train` (its best checkpoint is taken).
        target: The model the head shall draft for.

    Raises:
        UsageError: No head there, or it belongs to another target or vocabulary.
    """
    files = read_files(path)
    try:
        if files.is_own:
            shape, tensors, called = _shape(files.config, target), files.tensors, "edgeai"
        else:
            foreign = read_foreign(files.folder, files.config, files.tensors, target)
            shape, tensors, called = foreign.shape, foreign.tensors, foreign.format
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(files.folder, error) from error
    _check_target(files, shape, target)
    _check_tensors(files.folder, tensors, shape)
    head = DraftHead(shape, tensors.get("d2t"))  # t2d follows from d2t; without d2t the first tokens are drafted
    head.load_state_dict({**head.state_dict(), **tensors, "t2d": head.t2d})
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()))
    note = files.note
    info = HeadInfo(files.target_name, str(note.get("fingerprint", "")), note.get("metrics", {}), dtype, called)
    return head.to(target.device), info


def read_files(path: Path) -> HeadFiles:
    """Read the folder behind a path, see `find_head`.

    Raises:
        UsageError: No head there, or no readable one.
    """
    folder = find_head(path)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("config.json is no object")
        tensors, header = _read_tensors(folder)
        note = config.get("edgeai") or json.loads(header.get("edgeai", "{}"))
        if not isinstance(note, dict):
            raise ValueError("its edgeai entry is no object")
        return HeadFiles(folder, config, tensors, note)
    except (OSError, ValueError, SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise _unreadable(folder, error) from error


def _read_tensors(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of the weight file, and the texts in its header."""
    if (folder / WEIGHTS).is_file():
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    found = torch.load(folder / OLD_WEIGHTS, map_location="cpu", weights_only=True)
    if not (isinstance(found, dict) and all(isinstance(tensor, Tensor) for tensor in found.values())):
        raise ValueError(f"{OLD_WEIGHTS} is no dictionary of tensors")
    return found, {}


def _unreadable(folder: Path, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(f"{folder} holds no readable draft head: {reason}", hint="train one: edgeai spec train")


def find_head(path: Path) -> Path:
    """The checkpoint folder behind a path: itself, the best (else last) one of a run, or a shipped one by its name."""
    for folder in (path, path / "best", path / "last", SHIPPED / path):
        if (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (WEIGHTS, OLD_WEIGHTS)):
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
        rope=rope_of(config, of="the head") if "rope_theta" in config else None,
    )


def _check_target(files: HeadFiles, shape: HeadShape, target: Target) -> None:
    """A head that does not fit would only draft nonsense, so every mismatch is an error that names both sides."""
    folder, fingerprint = files.folder, files.note.get("fingerprint")
    hint = "give the target that the head was trained for, or train a head for this one"
    name = files.target_name or "a model"
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
    if shape.hidden_size != target.shape.hidden_size:
        raise UsageError(
            f"{folder} is a head of width {shape.hidden_size}, but the embedding it borrows from {target.name} has "
            f"width {target.shape.hidden_size}",
            hint=hint,
        )
    if max(shape.aux_layers) >= target.shape.num_layers:
        raise UsageError(
            f"{folder} drafts for {name} from layer {max(shape.aux_layers)}, but {target.name} has "
            f"{target.shape.num_layers} layers",
            hint=hint,
        )
    if fingerprint and fingerprint != target.fingerprint:
        raise UsageError(
            f"{folder} was trained for {name} (weights {fingerprint}), not for {target.name} "
            f"(weights {target.fingerprint})",
            hint=hint,
        )


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
    problems += [
        f"{name} is of {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
        if name in expected and tensor.dtype not in (_INTEGERS if name in ("d2t", "t2d") else _FLOATS)
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
