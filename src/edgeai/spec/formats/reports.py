"""Records of `edgeai spec export` and `spec import`. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgeai.core.report.fields import about, described


@dataclass(frozen=True)
class TensorRow:
    """One tensor of an exported file."""

    name: str = field(metadata=about("tensor"))
    shape: tuple[int, ...] = field(metadata=about("shape"))
    dtype: str = field(metadata=about("format"))


@dataclass(frozen=True)
class ExportPlan:
    """Content of an export."""

    head: Path = field(metadata=about("head"))
    format: str = field(metadata=about("written as"))
    target: str = field(metadata=about("target"))
    config: dict[str, Any] = field(metadata=about("config.json"))
    tensors: tuple[TensorRow, ...] = field(metadata=about("model.safetensors"))
    num_bytes: int = field(metadata=about("size"))
    notes: tuple[str, ...] = field(metadata=about("notes"))
    """Notes for the operator of the server."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "head": str(self.head)}


@dataclass(frozen=True)
class Agreement:
    """Result of checking an export with the independent reader."""

    problems: tuple[str, ...] = field(metadata=about("problems"))
    """Missing layers and tensors that differ from the format's table; if there are any, no logits are compared."""
    max_difference: float = field(
        metadata=about("largest logit difference", meaning="draft logits of the head and of the files read back")
    )
    """Infinite if a logit is NaN, or if the two can draft different tokens."""
    tolerance: float = field(metadata=about("tolerance", meaning="a share of the largest logit"))
    num_steps: int = field(metadata=about("draft steps compared"))

    @property
    def is_ok(self) -> bool:
        """True if the export agrees with the head."""
        return not self.problems and self.max_difference <= self.tolerance


@dataclass(frozen=True)
class ExportReport:
    """Written export and the result of its check."""

    COMPUTED: ClassVar = {
        **{name: described(ExportPlan, name) for name in ("head", "format", "target", "num_bytes")},
        **{name: described(Agreement, name) for name in ("problems", "max_difference", "tolerance", "num_steps")},
    }

    path: Path = field(metadata=about("folder"))
    plan: ExportPlan = field(metadata=about(""))
    agreement: Agreement = field(metadata=about(""))
    serve: str = field(metadata=about("command that serves it"))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "path": str(self.path),
            **self.plan.to_json(),
            **asdict(self.agreement),
            "ok": self.agreement.is_ok,
            "serve": self.serve,
        }


@dataclass(frozen=True)
class ImportReport:
    """Imported head and how it was read."""

    path: Path | None = field(metadata=about("written to"))
    """None with --dry-run."""
    source: Path = field(metadata=about("head"))
    format: str = field(metadata=about("format"))
    target: str = field(metadata=about("target"))
    num_parameters: int = field(metadata=about("parameters"))
    dtype: str = field(metadata=about("number format"))
    draft_vocab_size: int = field(metadata=about("draft vocabulary", meaning="tokens"))
    vocab_size: int = field(metadata=about("target vocabulary", meaning="tokens"))
    aux_layers: tuple[int, ...] = field(
        metadata=about("features", meaning="hidden states that enter these layers of the target")
    )
    rope: str = field(metadata=about("positions", meaning="rotary embedding of keys and queries"))
    switches: tuple[str, ...] = field(
        metadata=about("switches", meaning="enabled options of EAGLE-3.1 and speculators")
    )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "path": str(self.path) if self.path else None, "source": str(self.source)}
