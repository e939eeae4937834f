"""Real bytes beside the ledger's, in the run directory."""

from __future__ import annotations

from edgeai.core.files import json_text, write_whole
from edgeai.core.run import Run
from edgeai.fedsplit.flower.transport.courier import Traffic
from edgeai.fedsplit.reports.run_report import SimReport

WIRE = "wire.json"


def write_wire(run: Run, traffic: Traffic, report: SimReport) -> None:
    """Sets what was handed to the transport, at both ends, against what the ledger charged in the same rounds.

    The ledger's bytes are a lower bound: the rest is names, shapes, control words, the run's config, what devices keep,
    and rounds that were played again.
    """
    rounds = report.rounds[max(0, traffic.first_round - 1) :]
    ledger = {"down_bytes": sum(row.bytes_down for row in rounds), "up_bytes": sum(row.bytes_up for row in rounds)}
    write_whole(run.path / WIRE, json_text({"ledger": ledger, **traffic.to_json()}) + "\n")
