"""The files that the submitting process and the ServerApp of a run exchange in its run directory."""

from __future__ import annotations

from dataclasses import dataclass

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.reports.run_report import SimReport

PID = "server.pid"
"""File with the process id of the ServerApp."""
OUTCOME = "answer-{}.pickle"
"""File with the run's outcome; the placeholder is unique to a submission."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: exactly one field is set."""

    report: SimReport | None = None
    error: EdgeAIError | None = None
    bug: str | None = None
    """Traceback of an unexpected error."""
