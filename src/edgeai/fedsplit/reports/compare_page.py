"""The page of `edgeai fedsplit compare`: methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.plot import COLOURS, Line, draw_figure, line_figure
from edgeai.fedsplit.advise.recommendation import in_bytes, in_joules, in_seconds
from edgeai.fedsplit.reports.run_page import AXES

Part = Mapping[str, Any]

_LINES = 6
"""Lines in one plot that can still be told apart."""


def compare_blocks(report: Part) -> list[Block]:
    """Tables and pictures of a comparison.

    Args:
        report: A CompareReport as plain values.
    """
    rows = report["rows"]
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    words = f"{len(rows)} ways to train, seeds {', '.join(map(str, seeds))}: means, and the range where seeds differ."
    blocks: list[Block] = [Paragraph(words), main_table(rows)]
    if report["target_accuracy"] is not None:
        blocks += [Heading(f"What it cost to reach {report['target_accuracy']:.0%}"), target_table(rows)]
    if report["failures"]:
        blocks += [Heading("Failures"), Table(("run", "why"), list(report["failures"].items()))]
    blocks += [Heading("Accuracy against cost"), pareto_figure(rows)]
    for start in range(0, len(rows), _LINES):
        blocks += curve_figures(rows[start : start + _LINES])
    return blocks


def main_table(rows: Sequence[Part]) -> Table:
    """Accuracy and costs of every way."""
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("accuracy", "accuracy", lambda value: f"{value:.2%}"),
        ("up", "bytes_up", in_bytes),
        ("down", "bytes_down", in_bytes),
        ("virtual time", "seconds", in_seconds),
        ("energy of clients", "clients_j", in_joules),
        ("memory of a client", "client_memory_bytes", in_bytes),
        ("memory of the server", "server_memory_bytes", in_bytes),
    ]
    for name, field in (("dCor(x, z)", "dcor"), ("inversion SSIM", "inversion_ssim")):
        if any(row[field] for row in rows):
            columns.append((name, field, lambda value: f"{value:.3f}"))
    cells = [[row["label"], *(cell(row[field], show) for _, field, show in columns)] for row in rows]
    best = {"accuracy": "max", **{name: "min" for name, *_ in columns[1:]}}
    return Table(("method", *(name for name, *_ in columns)), cells, best=best)  # type: ignore[arg-type]


def target_table(rows: Sequence[Part]) -> Table:
    """Rounds, bytes, time and energy until the target accuracy."""
    cells: list[Sequence[Cell]] = []
    for row in rows:
        reached = f"{row['num_reached']} of {len(row['seeds'])}"
        fields = (
            ("target_round", lambda value: f"{value:.4g}"),
            ("target_bytes", in_bytes),
            ("target_seconds", in_seconds),
            ("target_joules", in_joules),
        )
        cells.append([row["label"], reached, *(cell(row[field], show) for field, show in fields)])
    columns = ("method", "seeds that reached it", "rounds", "bytes", "virtual time", "energy")
    best = {"rounds": "min", "bytes": "min", "virtual time": "min", "energy": "min"}
    caption = "Over the seeds that reached it; energy of clients and server."
    return Table(columns, cells, caption=caption, best=best)  # type: ignore[arg-type]


def pareto_figure(rows: Sequence[Part]) -> Figure:
    """Accuracy against all bytes, a point for each way."""

    def draw(axes: Any) -> None:
        for number, row in enumerate(rows):
            num_bytes = (row["bytes_up"]["mean"] + row["bytes_down"]["mean"]) / 1e6
            accuracy = row["accuracy"]
            low, high = (100 * abs(accuracy["mean"] - accuracy[end]) for end in ("least", "largest"))
            axes.errorbar(
                max(num_bytes, 1e-6),
                100 * accuracy["mean"],
                yerr=[[low], [high]],
                fmt="osD^vP*X"[number // len(COLOURS) % 8],
                color=COLOURS[number % len(COLOURS)],
                label=row["label"],
                capsize=2,
            )
        axes.set_xscale("log")
        axes.set_xlabel("bytes, both ways (MB)")
        axes.set_ylabel("test accuracy (%)")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    return draw_figure(
        draw,
        caption="Final accuracy against traffic; bars from the lowest to the highest seed. Up and left is better.",
        alt="Scatter plot of accuracy against bytes",
        size_in=(7.0, max(3.4, 0.26 * len(rows))),
    )


def curve_figures(rows: Sequence[Part]) -> list[Block]:
    """Accuracy over rounds, bytes, time and energy."""
    figures: list[Block] = []
    for number, (label, _, unit) in enumerate(AXES):
        at = (0, 2, 3, 4)[number]  # where a point of the curve holds it
        lines = [
            Line(row["label"], [p[at] / unit for p in row["curve"]], [100 * p[1] for p in row["curve"]]) for row in rows
        ]
        figures.append(
            line_figure(
                lines,
                x_label=label,
                y_label="test accuracy (%)",
                caption=f"Means over seeds, over {label.partition(' (')[0]}.",
                alt=f"Line plot of test accuracy over {label}",
            )
        )
    return figures


def cell(spread: Part | None, show: Callable[[float], str]) -> Cell:
    """Mean, and in brackets least and largest where they differ."""
    if spread is None:
        return None
    mean, least, largest = (show(spread[name]) for name in ("mean", "least", "largest"))
    return Number(spread["mean"], mean if least == largest else f"{mean} ({least} to {largest})")
