"""`edgeai spec export`: write a head in another tool's format and check the files with an independent reader."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.export import ExportConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.draft.checkpoint import HeadInfo, load_head
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.draft.head_files import find_head, read_files, write_files
from edgeai.spec.draft.rope import Rope, rope_of
from edgeai.spec.formats.agreement import check_agreement
from edgeai.spec.formats.independent_reader import IndependentReader
from edgeai.spec.formats.layout import LAYOUTS, file_tensors, unsupported
from edgeai.spec.formats.reports import ExportPlan, ExportReport, TensorRow
from edgeai.spec.formats.tool_config import ModelFacts, config_for
from edgeai.spec.target.build import build_target
from edgeai.spec.target.loading import model_config
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class _PreparedExport:
    """Head, target and file contents before anything is written."""

    head: DraftHead
    info: HeadInfo
    target: Target
    facts: ModelFacts
    rope: Rope
    plan: ExportPlan
    tensors: dict[str, Tensor]


def plan_export(cfg: ExportConfig, *, device: str, metrics: Metrics) -> ExportPlan:
    """Return what `export_head` would write.

    Args:
        cfg: Head, target and format.
        device: Device of the target.
        metrics: Receives progress of a download or conversion.

    Raises:
        UsageError: No such head, or its target is unknown.
        EdgeAIError: The format does not support a feature of the head.
    """
    return _prepare(cfg, device, metrics).plan


def export_head(cfg: ExportConfig, out: Path, *, device: str, metrics: Metrics) -> ExportReport:
    """Write an export and check it; an export that fails the check stays in a folder with the suffix .partial.

    Args:
        cfg: Head, target and format.
        out: New folder.
        device: Device of the target.
        metrics: Receives progress of a download or conversion.

    Raises:
        UsageError: No such head, its target is unknown, or the folder is not empty.
        EdgeAIError: The format does not support a feature of the head, or the files cannot be written.
    """
    check_empty(out)
    ready = _prepare(cfg, device, metrics)
    partial = out.with_name(out.name + ".partial")
    note = {"target": ready.target.name, "fingerprint": ready.target.fingerprint, "metrics": dict(ready.info.metrics)}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        write_files(partial, ready.plan.config, ready.tensors, {"edgeai": json.dumps(note)})
        reader = IndependentReader(partial, cfg.format, ready.facts.num_layers)
        agreement = check_agreement(reader, ready.head, ready.target, ready.rope)
        if agreement.is_ok:
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.is_dir():
                out.rmdir()
            partial.rename(out)
    except (OSError, SafetensorError) as error:
        raise EdgeAIError(f"cannot write {out}: {error}", hint="free some space, or give another folder") from error
    return ExportReport(out, ready.plan, agreement, _serve_command(cfg, out, ready.facts))


def check_empty(out: Path) -> None:
    """Check that an output folder is new or empty: a server must find one head in it and nothing else.

    Raises:
        UsageError: The folder has content.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} already exists", hint="give a new folder as --out")


def target_of(given: TargetConfig | None, head: Path) -> TargetConfig:
    """Return the given target, or the one that the head's training run or file names.

    Raises:
        UsageError: No such head, or its target is unknown.
    """
    if given is not None:
        return given
    run = head / "config.yaml"
    if run.is_file() and (head / "run.json").is_file():
        return load_config(TrainConfig, run).target
    files = read_files(head)
    if not files.target_name:
        raise UsageError(f"{files.folder} does not name its target model", hint="give it with -s target.model=MODEL")
    return TargetConfig(model=files.target_name)


def _prepare(cfg: ExportConfig, device: str, metrics: Metrics) -> _PreparedExport:
    folder = find_head(cfg.head)
    model = target_of(cfg.target, cfg.head)
    target = build_target(model, device=device, metrics=metrics)
    head, info = load_head(folder, target)
    facts = _facts(model_config(model.model, metrics), cfg.verifier or model.model)
    rope = head.shape.rope or facts.rope
    if missing := unsupported(head.shape, rope, cfg.format, facts.num_layers):
        raise EdgeAIError(
            f"{cfg.format} cannot run {folder}: it does not support {', '.join(missing)}",
            hint="use another --format, or change head.fc_norm, head.norm_output or head.aux_layers and train again",
        )
    if head.shape.rope is None and not facts.rope.equals(target.rotary):
        raise EdgeAIError(f"the rotary tables of {target.name} do not match its config", hint="please report this bug")
    tensors = file_tensors(head.state_dict(), head.shape, LAYOUTS[cfg.format], info.dtype)
    plan = ExportPlan(
        head=folder,
        format=cfg.format,
        target=model.model,
        config=config_for(cfg.format, head.shape, facts, rope, info.dtype),
        tensors=tuple(TensorRow(name, tuple(t.shape), str(t.dtype)[6:]) for name, t in sorted(tensors.items())),
        num_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        notes=_notes(cfg, head, facts),
    )
    return _PreparedExport(head, info, target, facts, rope, plan, tensors)


def _facts(config: dict[str, Any], name: str) -> ModelFacts:
    return ModelFacts(
        name=name,
        num_layers=int(config["num_hidden_layers"]),
        rope=rope_of(config, of=name),
        max_positions=int(config["max_position_embeddings"]),
        architectures=tuple(config.get("architectures") or ()),
        special_ids={key: config.get(key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )


def _notes(cfg: ExportConfig, head: DraftHead, facts: ModelFacts) -> tuple[str, ...]:
    notes = []
    if head.shape.fc_norm or head.shape.norm_output:
        server = "an SGLang" if cfg.format == "sglang" else "a vLLM"
        notes.append(
            f"needs {server} version with EAGLE-3.1 (fc_norm, norm_output): older versions reject the file or silently "
            "ignore the norms"
        )
    if "/" not in facts.name and not Path(facts.name).is_dir():
        notes.append(f"'{facts.name}' is an edgeai asset name: give the server's path or Hub id with -s verifier=...")
    return tuple(notes)


def _serve_command(cfg: ExportConfig, out: Path, facts: ModelFacts) -> str:
    if cfg.format == "sglang":
        return (
            f"python -m sglang.launch_server --model-path {facts.name} --speculative-algorithm EAGLE3 "
            f"--speculative-draft-model-path {out}"
        )
    if cfg.format == "vllm":
        settings = json.dumps({"method": "eagle3", "model": str(out), "num_speculative_tokens": 3})
        return f"vllm serve {facts.name} --speculative-config '{settings}'"
    if cfg.format == "speculators":
        return f"vllm serve {out}"
    return f'EaModel.from_pretrained(base_model_path="{facts.name}", ea_model_path="{out}")'
