"""wire.json of a run directory: bytes on the wire next to the ledger's bytes."""

from __future__ import annotations

from edgeai.core.files import json_text, write_whole
from edgeai.core.run import Run
from edgeai.fedsplit.flower.transport.device_transport import Traffic
from edgeai.fedsplit.reports.run_report import SimReport

WIRE = "wire.json"


def write_wire(run: Run, traffic: Traffic, report: SimReport) -> None:
    """Write the bytes handed to the transport, at both ends, and the bytes that the ledger charged in the same rounds.

    The ledger's bytes are a lower bound. The transport adds names, shapes, control words, the run's config, the saved
    states of devices, and repeated rounds.
    """
    rounds = report.rounds[max(0, traffic.first_round - 1) :]
    ledger = {"down_bytes": sum(row.bytes_down for row in rounds), "up_bytes": sum(row.bytes_up for row in rounds)}
    write_whole(run.path / WIRE, json_text({"ledger": ledger, **traffic.to_json()}) + "\n")
