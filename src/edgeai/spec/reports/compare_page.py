"""The report of `edgeai spec compare` as blocks: one table per tree, training costs and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Heading, Number, Table
from edgeai.core.report.fields import fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.spec.evaluation.compare.report import CompareReport, TrainingCost

Document = Mapping[str, Any]

SETTING = ("target", "dtype", "runtime", "baseline", "max_tokens")
CAPTION = (
    "accept_len: tokens per cycle, bonus token included. Ratio: to {baseline}, of heads with the same seed. Range: "
    "lowest to highest seed. 95% interval: of the mean ratio, with the prompts resampled."
)


def compare_summary(report: Document) -> list[Block]:
    """Return the tables that say what a comparison found.

    Args:
        report: Its report.json.
    """
    found = leaves(CompareReport, report)
    paths = [*SETTING, *(path for path in found if path.startswith("num_prompts."))]
    blocks: list[Block] = [fields_table(found, paths)]
    shapes = [cell["tree"] for cell in report["cells"]]
    for number, shape in enumerate(shapes):
        if shape not in shapes[:number]:
            words = f"Tree of {shape['nodes']} nodes, depth {shape['depth']}, top-k {shape['top_k']}"
            blocks += [Heading(words), _tree_table(report, shape)]
    if report["costs"]:
        blocks += [Heading("Training"), records_table(TrainingCost, report["costs"])]
    if report["failures"]:
        blocks += [Heading("Failures"), Table(("training", "reason"), list(report["failures"].items()))]
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
    figure = line_figure(
        lines,
        x_label="optimizer step",
        y_label="accept_len",
        caption="accept_len on validation text; lines: mean over seeds, bands: lowest to highest seed.",
        alt="; ".join(f"{line.name} at the end {line.y[-1]:.3f}" for line in lines),
    )
    return [Heading("Training curves"), figure]


def _tree_table(report: Document, shape: Document) -> Table:
    rows: list[Sequence[Cell]] = []
    for cell in report["cells"]:
        if cell["tree"] == shape:
            ratio = cell["ratio"] or {}
            rows.append(
                (
                    cell["benchmark"],
                    cell["temperature"],
                    cell["variant"],
                    Number(cell["mean"], f"{cell['mean']:.3f}"),
                    _range(cell, "minimum", "maximum") if len(cell["accept_len"]) > 1 else None,
                    Number(ratio["mean"], f"{ratio['mean']:.3f}") if ratio else None,
                    _range(ratio, "minimum", "maximum") if ratio and ratio["minimum"] != ratio["maximum"] else None,
                    _range(ratio, "low", "high") if ratio else None,
                )
            )
    columns = ("benchmark", "temperature", "variant", "accept_len", "range", "ratio", "range of ratio", "95% interval")
    return Table(columns, rows, CAPTION.format(baseline=report["baseline"]))


def _range(values: Document, low: str, high: str) -> str:
    return f"{values[low]:.3f} to {values[high]:.3f}"
