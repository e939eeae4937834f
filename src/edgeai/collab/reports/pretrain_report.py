"""The outcome of `edgeai collab pretrain`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.fields import About, about

LOGGED: Mapping[str, About] = {
    "loss": About("loss"),
    "accuracy": About("pixel accuracy"),
    "naming": About("cross-entropy of the classes"),
    "focal": About("focal loss"),
    "dice": About("dice loss"),
    "iou_error": About("squared error of the predicted IoU"),
    "iou": About("IoU of the highest-scored mask"),
    "lr": About("learning rate"),
    "grad_norm": About("gradient norm"),
    "score": About("score"),
    "miou_clear": About("mIoU, clear scenes"),
    "miou_drift": About("mIoU, drifted scenes"),
    "accuracy_clear": About("pixel accuracy, clear scenes"),
    "accuracy_drift": About("pixel accuracy, drifted scenes"),
    "iou_point": About("IoU, point prompts"),
    "iou_box": About("IoU, box prompts"),
    "iou_best": About("IoU of the best of three masks"),
}
"""Descriptions of the logged metrics."""


@dataclass(frozen=True)
class PretrainReport:
    """Outcome of a pretraining run."""

    part: str = field(metadata=about("part", meaning="edge net, cloud net or sam-tiny"))
    weights: str = field(metadata=about("weights", meaning="folder of the best weights"))
    digest: str = field(metadata=about("digest of the weights"))
    num_parameters: int = field(metadata=about("parameters"))
    num_steps: int = field(metadata=about("optimizer steps"))
    scenes_seen: int = field(metadata=about("training scenes", meaning="repeats counted"))
    score: float = field(
        metadata=about("score", meaning="mIoU of a net or mean mask IoU of sam-tiny, best weights, validation scenes")
    )
    val: dict[str, float] = field(metadata=about("validation", keys=LOGGED))
    """All metrics of the best weights by name."""
    train_s: float = field(metadata=about("training time"))
    peak_memory_bytes: int = field(metadata=about("peak memory"))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
