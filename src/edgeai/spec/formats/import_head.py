"""`edgeai spec import`: convert a published head to an edgeai checkpoint for one target."""

from __future__ import annotations

from pathlib import Path

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.export import ImportConfig
from edgeai.spec.draft.checkpoint import load_head, save_head
from edgeai.spec.draft.head_files import read_files
from edgeai.spec.formats.export_head import check_empty, target_of
from edgeai.spec.formats.reports import ImportReport
from edgeai.spec.target.build import build_target


def import_head(cfg: ImportConfig, out: Path | None, *, device: str, metrics: Metrics) -> ImportReport:
    """Convert a head and save it as a checkpoint.

    Args:
        cfg: Head and target.
        out: New folder; None checks the head without writing it.
        device: Device of the target.
        metrics: Receives progress of a download or conversion.

    Raises:
        UsageError: No such head, it does not fit the target, it has unknown content, or the folder is not empty.
        EdgeAIError: The checkpoint cannot be written.
    """
    if out is not None:
        check_empty(out)
    files = read_files(cfg.head)
    if files.is_own:
        raise UsageError(f"{files.folder} is already an edgeai head", hint=f"use it with -s draft.path={files.folder}")
    target = build_target(target_of(cfg.target, cfg.head), device=device, metrics=metrics)
    head, info = load_head(files.folder, target)
    if out is not None:
        save_head(out, head, target, info.metrics, dtype=info.dtype)
    shape = head.shape
    return ImportReport(
        path=out,
        source=files.folder,
        format=info.format,
        target=target.name,
        num_parameters=head.num_parameters(),
        dtype=str(info.dtype).removeprefix("torch."),
        draft_vocab_size=shape.draft_vocab_size,
        vocab_size=shape.vocab_size,
        aux_layers=shape.aux_layers,
        rope="as the target" if shape.rope is None else f"base {shape.rope.theta:g}, scaling {shape.rope.kind}",
        switches=tuple(name for name in ("fc_norm", "norm_output", "norm_before_residual") if getattr(shape, name)),
    )
