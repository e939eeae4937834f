"""The report of `edgeai fedsplit compare` as blocks: methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Figure, Paragraph, Table, section
from edgeai.core.report.fields import records_table, spread_of
from edgeai.core.report.pareto import Point, pareto_figure
from edgeai.core.report.plot import Line
from edgeai.core.stats import Spread
from edgeai.core.units import percent
from edgeai.fedsplit.reports.compare_report import CompareRow
from edgeai.fedsplit.reports.run_page import AXES, accuracy_figure

Document = Mapping[str, Any]

TARGET = ("label", "num_reached", "target_round", "target_bytes", "target_seconds", "target_joules")
_LINES = 6
"""Lines in one plot that can still be told apart."""


def compare_summary(report: Document) -> list[Block]:
    """Return the tables that say what a comparison found.

    Args:
        report: Its report.json.
    """
    rows = report["rows"]
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    words = f"{len(rows)} configurations, seed {seeds[0]}."
    if len(seeds) > 1:
        words = f"{len(rows)} configurations, seeds {', '.join(map(str, seeds))}: mean (lowest to highest seed)."
    blocks: list[Block] = [Paragraph(words), records_table(CompareRow, rows)]
    if report["target_accuracy"] is not None:
        caption = "Cost over the seeds that reached the target; energy of clients and server."
        title = f"Cost of reaching {percent(report['target_accuracy'], 0)}"
        blocks += section(title, records_table(CompareRow, rows, TARGET, caption=caption))
    if report["failures"]:
        blocks += section("Failures", Table(("run", "reason"), list(report["failures"].items())))
    return blocks


def compare_details(_: Path, report: Document) -> list[Block]:
    """Return the figures of a comparison's page.

    Args:
        _: Run directory.
        report: Its report.json.
    """
    rows = report["rows"]
    points = [Point(row["label"], _traffic(row), spread_of(row["accuracy"]).scaled(100)) for row in rows]
    figures = [pareto_figure(points, x_label="traffic, both ways", x_unit="B", y_label="test accuracy (%)", log_x=True)]
    for start in range(0, len(rows), _LINES):
        figures += _curve_figures(rows[start : start + _LINES])
    return section("Accuracy against cost", *figures)


def _traffic(row: Document) -> Spread:
    return Spread.of([max(row["bytes_up"]["mean"] + row["bytes_down"]["mean"], 1.0)])


def _curve_figures(rows: Sequence[Document]) -> list[Figure]:
    """Mean accuracy over rounds, bytes, time and energy."""
    figures = []
    for at, (label, _, unit) in zip((0, 2, 3, 4), AXES, strict=True):  # place of the value in a point of the curve
        lines = [
            Line(row["label"], [p[at] / unit for p in row["curve"]], [100 * p[1] for p in row["curve"]]) for row in rows
        ]
        figures.append(accuracy_figure(lines, label, " Means over seeds."))
    return figures
