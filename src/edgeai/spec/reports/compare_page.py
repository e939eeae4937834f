"""The report of `edgeai spec compare` as blocks: one table per tree, training costs and curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Table, section
from edgeai.core.report.fields import fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.spec.evaluation.compare.report import Cell, CompareReport, TrainingCost, TreeShape

Document = Mapping[str, Any]

CELL = ("benchmark", "temperature", "variant", "mean", "ratio.mean", "interval")


def compare_summary(report: Document) -> list[Block]:
    """Return the tables that say what a comparison found.

    Args:
        report: Its report.json.
    """
    blocks: list[Block] = [fields_table(leaves(CompareReport, report))]
    for shape in dict.fromkeys(TreeShape(**cell["tree"]) for cell in report["cells"]):
        rows = [_row(cell) for cell in report["cells"] if TreeShape(**cell["tree"]) == shape]
        blocks += section(str(shape).capitalize(), records_table(Cell, rows, CELL))
    if report["costs"]:
        blocks += section("Training", records_table(TrainingCost, report["costs"]))
    if report["failures"]:
        blocks += section("Failures", Table(("training", "reason"), list(report["failures"].items())))
    return blocks


def compare_details(_: Path, report: Document) -> list[Block]:
    """Return the figures of a comparison's page.

    Args:
        _: Run directory.
        report: Its report.json.
    """
    lines = [Line(**curve) for curve in report["curves"]]
    if not lines:
        return []
    caption = "accept_len on validation text; lines: mean over seeds, bands: lowest to highest seed."
    figure = line_figure(lines, x_label="optimizer step", y_label="accept_len (tokens per cycle)", caption=caption)
    return section("Training curves", figure)


def _row(cell: Document) -> Document:
    """Return a cell with its spreads and its interval as one value each."""
    ratio = cell["ratio"]
    spread = {name: cell[name] for name in ("mean", "minimum", "maximum")}
    if ratio is None:
        return {**cell, "mean": spread}
    interval = f"{ratio['low']:.3f} to {ratio['high']:.3f}"
    return {**cell, "mean": spread, "ratio": {"mean": ratio}, "interval": interval}
