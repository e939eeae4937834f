"""`edgeai spec import`: a published head becomes one of edgeai's, for one target."""

from __future__ import annotations

from pathlib import Path

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.export import ImportConfig
from edgeai.spec.draft.checkpoint import load_head, read_files, save_head
from edgeai.spec.formats.export import refuse_full, settle_target
from edgeai.spec.formats.reports import ImportReport
from edgeai.spec.target.loading import load_target


def import_head(cfg: ImportConfig, out: Path | None, *, device: str, metrics: Metrics) -> ImportReport:
    """Translate a head and write it down.

    Args:
        cfg: Which head, for which target.
        out: New folder; None only looks whether the head can be had.
        device: Where the target runs.
        metrics: Receives progress of a download or conversion.

    Raises:
        UsageError: No such head, it is not for this target, something in it is unknown, or the folder is not empty.
        EdgeAIError: The disk is full.
    """
    if out is not None:
        refuse_full(out)
    files = read_files(cfg.head)
    if files.is_own:
        raise UsageError(
            f"{files.folder} is a head of edgeai already", hint=f"use it as it is: -s draft.path={files.folder}"
        )
    target = load_target(settle_target(cfg.target, cfg.head), device=device, metrics=metrics)
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
