"""The outcome of `edgeai collab pretrain`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.fields import about


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
    val: dict[str, float] = field(metadata=about("validation"))
    """All metrics of the best weights by name."""
    train_s: float = field(metadata=about("training time"))
    peak_memory_bytes: int = field(metadata=about("peak memory"))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
