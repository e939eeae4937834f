"""The report of `edgeai fedsplit partition` as blocks, and the picture of a partition for other pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeai.core.report.blocks import Block, Figure, Table
from edgeai.core.report.fields import fields_table, leaves, records_table
from edgeai.core.report.plot import bars_figure
from edgeai.fedsplit.reports.partition_report import ClientPart, PartitionReport

Part = Mapping[str, Any]
"""A PartitionReport, or a piece of it, as plain values."""

_MAX_BARS = 60
_MAX_ROWS = 100
_MAX_CLASS_COLUMNS = 12


def partition_blocks(report: Part) -> list[Block]:
    """Return a table of the whole partition, a picture and a table of the clients.

    Args:
        report: The report as plain data.
    """
    return [fields_table(leaves(PartitionReport, report)), partition_figure(report), _table(report)]


def partition_figure(report: Part) -> Figure:
    """Draw one bar per client: its samples, colored by class."""
    counts = [part["class_counts"] for part in report["summary"]["clients"]]
    return histogram_figure(counts, classes=report["classes"], kind=report["kind"], alt=_in_words(report))


def histogram_figure(counts: Sequence[Sequence[int]], *, classes: Sequence[str], kind: str, alt: str) -> Figure:
    """Draw one bar per client from the counts alone.

    Args:
        counts: Samples of each client by class.
        classes: Names of the classes.
        kind: Kind of the partition.
        alt: Text for readers who cannot see the picture.
    """
    shown = counts[:_MAX_BARS]
    more = f" The first {len(shown)} of {len(counts)}." if len(counts) > len(shown) else ""
    return bars_figure(
        [str(client) for client in range(len(shown))],
        {name: [count[label] for count in shown] for label, name in enumerate(classes)},
        x_label="samples",
        y_label="client",
        caption=f"Training samples of each client, by class ({kind}).{more}",
        alt=alt,
    )


def _in_words(report: Part) -> str:
    summary = report["summary"]
    sizes = [part["num_samples"] for part in summary["clients"]]
    text = f"{report['dataset']}: {summary['num_samples']:,} training samples for {report['num_clients']} clients"
    if report["kind"] == "vertical":
        return f"{text}, each with other inputs of all samples."
    held = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    return f"{text}, {held} each."


def _table(report: Part) -> Table:
    clients, classes = report["summary"]["clients"], report["classes"]
    caption = "Samples by class." if len(classes) <= _MAX_CLASS_COLUMNS else ""
    if len(clients) > _MAX_ROWS:
        caption = f"The first {_MAX_ROWS} of {len(clients)} clients. {caption}".rstrip()
    rows = [_row(part, classes) for part in clients[:_MAX_ROWS]]
    return records_table(ClientPart, rows, caption=caption, max_rows=_MAX_ROWS)


def _row(part: Part, classes: Sequence[str]) -> Part:
    """Return a client's part with its counts by class name, or their number where the classes are too many."""
    counts = part["class_counts"]
    row = {**part, "groups": ", ".join(part["groups"]), "inputs": ", ".join(part["inputs"])}
    if len(classes) <= _MAX_CLASS_COLUMNS:
        return {**row, "class_counts": dict(zip(classes, counts, strict=True))}
    del row["class_counts"]
    return {**row, "num_classes": sum(count > 0 for count in counts)}
