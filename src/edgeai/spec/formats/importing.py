"""`edgeai spec import`: a published head becomes one of edgeai's, for one target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.schema import ImportConfig
from edgeai.spec.draft.checkpoint import load_head, read_files, save_head
from edgeai.spec.formats.export import refuse_full, settle_target
from edgeai.spec.target.loading import load_target


@dataclass(frozen=True)
class ImportReport:
    """What was read, and as what."""

    path: Path | None
    """Where it was written; None if it was only looked at."""
    source: Path
    format: str
    target: str
    num_parameters: int
    dtype: str
    draft_vocab_size: int
    vocab_size: int
    aux_layers: tuple[int, ...]
    """States entering these layers of the target."""
    rope: str
    """What it turns keys and queries with."""
    switches: tuple[str, ...]
    """EAGLE-3.1's and speculators' that are on."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**asdict(self), "path": str(self.path) if self.path else None, "source": str(self.source)}


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
