"""The report of `edgeai fedsplit compare` as blocks: methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Heading, Paragraph, Table
from edgeai.core.report.fields import records_table
from edgeai.core.report.pareto import Point, pareto_figure
from edgeai.core.report.plot import Line
from edgeai.core.stats import Spread
from edgeai.core.units import percent
from edgeai.fedsplit.reports.compare_report import CompareRow
from edgeai.fedsplit.reports.run_page import AXES, accuracy_figure

Document = Mapping[str, Any]

MAIN: tuple[str, ...] = (
    "label",
    "accuracy",
    "bytes_up",
    "bytes_down",
    "seconds",
    "clients_j",
    "client_memory_bytes",
    "server_memory_bytes",
    "dcor",
    "inversion_ssim",
)
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
    words = f"{len(rows)} configurations, seeds {', '.join(map(str, seeds))}: mean (lowest to highest seed)."
    blocks: list[Block] = [Paragraph(words), records_table(CompareRow, rows, MAIN)]
    if report["target_accuracy"] is not None:
        caption = "Cost over the seeds that reached the target; energy of clients and server."
        target = f"Cost of reaching {percent(report['target_accuracy'], 0)}"
        blocks += [Heading(target), records_table(CompareRow, rows, TARGET, caption=caption)]
    if report["failures"]:
        blocks += [Heading("Failures"), Table(("run", "reason"), list(report["failures"].items()))]
    return blocks


def compare_details(_: Path, report: Document) -> list[Block]:
    """Return the figures of a comparison's page.

    Args:
        _: Run directory.
        report: Its report.json.
    """
    rows = report["rows"]
    points = [Point(row["label"], _traffic_mb(row), _spread(row["accuracy"]).scaled(100)) for row in rows]
    figure = pareto_figure(points, x_label="bytes, both ways (MB)", y_label="test accuracy (%)", log_x=True)
    blocks: list[Block] = [Heading("Accuracy against cost"), figure]
    for start in range(0, len(rows), _LINES):
        blocks += _curve_figures(rows[start : start + _LINES])
    return blocks


def _spread(spread: Document) -> Spread:
    return Spread(spread["mean"], spread["mean"], spread["least"], spread["largest"])


def _traffic_mb(row: Document) -> Spread:
    mean_mb = max((row["bytes_up"]["mean"] + row["bytes_down"]["mean"]) / 1e6, 1e-6)
    return Spread.of([mean_mb])


def _curve_figures(rows: Sequence[Document]) -> list[Block]:
    """Mean accuracy over rounds, bytes, time and energy."""
    figures: list[Block] = []
    for at, (label, _, unit) in zip((0, 2, 3, 4), AXES, strict=True):  # place of the value in a point of the curve
        lines = [
            Line(row["label"], [p[at] / unit for p in row["curve"]], [100 * p[1] for p in row["curve"]]) for row in rows
        ]
        figures.append(accuracy_figure(lines, label, " Means over seeds."))
    return figures
