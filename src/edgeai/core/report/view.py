"""How the report of a verb is shown; each area lists its views by verb in `reports/views.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block
from edgeai.core.report.fields import About, report_blocks

Document = Mapping[str, Any]
"""A report as plain data."""


@dataclass(frozen=True)
class View:
    """How the report of one verb is shown."""

    record: type | None = None
    """The report's dataclass; None for a report that is not described."""
    summary: Callable[[Document], list[Block]] | None = None
    """Tables that say what a run found; None: all fields of the dataclass."""
    details: Callable[[Path, Document], list[Block]] = lambda _, __: []
    """Pictures and further tables of the page, given the run directory."""
    logged: Mapping[str, About] = field(default_factory=dict)
    """Descriptions of the logged metrics by name. "loss_*" describes loss_0, loss_1, ..., whose numbers replace the *
    in the label."""

    def tables(self, document: Document) -> list[Block]:
        """Return the tables that say what a run found."""
        return self.summary(document) if self.summary else report_blocks(self.record, document)
