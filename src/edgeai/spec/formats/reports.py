"""What `spec export` and `spec import` report. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorRow:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ExportPlan:
    """What is written."""

    head: Path
    format: str
    target: str
    config: dict[str, Any]
    tensors: tuple[TensorRow, ...]
    num_bytes: int
    notes: tuple[str, ...]
    """What whoever serves it should know."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**asdict(self), "head": str(self.head)}


@dataclass(frozen=True)
class Agreement:
    """What the second reader found."""

    problems: tuple[str, ...]
    """Tensors that are not as the format's table says, layers that are not there; nothing was compared then."""
    max_difference: float
    """Largest difference of any logit; infinite where one of the two is no number or drafts other tokens."""
    tolerance: float
    """Up to here the two agree: a share of the largest logit."""
    num_steps: int
    """Draft steps compared."""

    @property
    def is_ok(self) -> bool:
        """Whether the export can be trusted."""
        return not self.problems and self.max_difference <= self.tolerance


@dataclass(frozen=True)
class ExportReport:
    """What was written, and whether it says there what it says here."""

    path: Path
    plan: ExportPlan
    agreement: Agreement
    serve: str
    """The command that serves it."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "path": str(self.path),
            **self.plan.to_json(),
            **asdict(self.agreement),
            "ok": self.agreement.is_ok,
            "serve": self.serve,
        }


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
