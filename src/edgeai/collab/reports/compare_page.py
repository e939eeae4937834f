"""The report of `edgeai collab compare` as blocks: tables for the terminal, curves and pictures for the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeai.collab.reports.compare_report import METRICS, Row
from edgeai.collab.reports.frame_records import FILE, read_records
from edgeai.collab.reports.frame_strips import color_key, overlay_strips
from edgeai.collab.reports.run_page import TIME_LABEL, Document
from edgeai.collab.reports.timeline import Timeline, over_seeds, window_line
from edgeai.core.report.blocks import Block, Cell, Number, Paragraph, Table, section
from edgeai.core.report.fields import records_table, spread_of
from edgeai.core.report.pareto import Point, pareto_figure
from edgeai.core.report.plot import Line, line_figure

LINES = 4
"""Strategies in one plot in addition to the references."""
CURVES: dict[str, Callable[[Document, float], float | None]] = {
    "mIoU": lambda window, _: window["quality"]["miou"] if window["quality"] else None,
    "share of frames uploaded": lambda window, _: window["upload_rate"],
    "uplink (kbit/s)": lambda window, length_s: window["up_bytes"] * 8e-3 / length_s,
}
"""Value of a window of a given length in seconds, by the label of the axis."""
QUALITY = ("miou", "cpa", "accuracy", "bwt", "fwt")
DIFFERENCES = ("miou", "cpa")
RATIOS = ("miou", "up_bytes", "down_bytes", "p50_s", "p95_s")
ABLATION = "-no-"
"""Part of the names of ablated strategies; they stay out of pictures of cost."""


def compare_summary(report: Document) -> list[Block]:
    """Return the tables that say what a comparison found.

    Args:
        report: Its report.json.
    """
    rows = report["rows"]
    blocks: list[Block] = [Paragraph(_in_words(report)), main_table(rows)]
    if len(report["seeds"]) > 1:
        blocks += section("Range over seeds", *_range_tables(rows))
    if report["failures"]:
        blocks += section("Failures", Table(("run", "reason"), list(report["failures"].items())))
    for reference in _references(report):
        blocks += section(f"Against {reference}", versus_table(report["versus"], reference))
    if any(len(row["segment_miou"]) > 1 for row in rows):
        blocks += section("Drift segments", _segment_table(rows))
    return blocks


def compare_details(folder: Path, report: Document) -> list[Block]:
    """Return the curves and pictures of a comparison's page.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    rows, references, results = report["rows"], _references(report), _results(folder, report)
    shown = next((row["strategy"] for row in rows if row["strategy"] in references), rows[0]["strategy"])
    return [
        *section("Accuracy against cost", *_pareto(rows, references)),
        *section("Over time", *_time_figures(folder, results, references)),
        *section("Frames", *_strips(folder, results, shown)),
    ]


def _references(report: Document) -> list[str]:
    return list(dict.fromkeys(versus["reference"] for versus in report["versus"]))


def _in_words(report: Document) -> str:
    num, seeds = len(report["rows"]), ", ".join(map(str, report["seeds"]))
    text = f"{num} strategies on the same streams, seeds {seeds}."
    return text + (" The comparison was interrupted: some runs are missing." if report["interrupted"] else "")


def main_table(rows: Sequence[Document]) -> Table:
    """Return one row per strategy with its means over seeds."""
    means = [{**row, "spreads": _means(row["spreads"])} for row in rows]
    return records_table(Row, means, caption="Means over seeds.", max_rows=len(rows))


def _means(spreads: Mapping[str, Document]) -> dict[str, float]:
    return {name: spread["mean"] for name, spread in spreads.items()}


def versus_table(versus: Sequence[Document], reference: str) -> Table:
    """Return differences and ratios of the strategies to one reference."""
    found: dict[str, dict[str, Cell]] = {}
    for item in versus:
        if item["reference"] == reference:
            row, label = found.setdefault(item["strategy"], {}), METRICS[item["metric"]].about.label
            if item["metric"] in DIFFERENCES:
                row[f"{label} −"] = _spread_cell(item["difference"], "+z.3f")
            if item["metric"] in RATIOS and item["ratio"]:
                row[f"{label} ÷"] = _spread_cell(item["ratio"], ".2f")
    columns = list(dict.fromkeys(name for row in found.values() for name in row))
    rows = [[strategy, *(row.get(name) for name in columns)] for strategy, row in found.items()]
    caption = f"−: difference to {reference}, ÷: ratio to it, on the same seed; mean (lowest to highest seed)."
    return Table(("strategy", *columns), rows, caption=caption)


def _spread_cell(spread: Mapping[str, float], form: str) -> Cell:
    mean, low, high = (format(spread[name], form) for name in ("mean", "minimum", "maximum"))
    return Number(spread["mean"], mean if low == high else f"{mean} ({low} to {high})")


def _range_tables(rows: Sequence[Document]) -> list[Block]:
    """Quality, traffic and latency: mean and range over seeds."""
    latency = [name for name in METRICS if name.endswith("_s")]
    traffic = [name for name in METRICS if name not in (*QUALITY, *latency)]
    return [
        records_table(
            Row, rows, ["strategy", *(f"spreads.{name}" for name in names)], explained=False, max_rows=len(rows)
        )
        for names in (QUALITY, traffic, latency)
    ]


def _pareto(rows: Sequence[Document], references: Sequence[str]) -> list[Block]:
    found: list[Block] = []
    for metric, x_label, x_unit in (("up_bytes", "uplink", "B"), ("p50_s", "median latency", "s")):
        points = [
            Point(row["strategy"], spread_of(row["spreads"][metric]), spread_of(row["spreads"]["miou"]))
            for row in rows
            if {metric, "miou"} <= row["spreads"].keys() and ABLATION not in row["strategy"]
        ]
        if points:
            found.append(pareto_figure(points, marked=references, x_label=x_label, x_unit=x_unit, y_label="mIoU"))
    return found or [Paragraph("The streams have no labels: accuracy is not known.")]


def _time_figures(
    folder: Path, results: Mapping[str, Mapping[int, Document]], references: Sequence[str]
) -> list[Block]:
    """Curves of a few strategies at a time, each time with the references."""
    timeline = _timeline(folder, results)
    if timeline is None:
        return [Paragraph("The records of the runs are no longer there.")]
    others = [name for name in results if name not in references]
    known = [name for name in references if name in results]
    uploading = [name for name in others if ABLATION not in name and _uploads(results[name])]
    figures: list[Block] = []
    for y_label, of in CURVES.items():
        shown = others if y_label == "mIoU" else uploading
        for group in [shown[start : start + LINES] for start in range(0, len(shown), LINES)] or [[]]:
            lines = [_line(name, results[name], of, timeline.end_s) for name in [*known, *group]]
            lines = [line for line in lines if line.x]
            if lines:
                caption = "Lines: mean over seeds; bands: lowest to highest seed."
                spans = timeline.spans()
                figures.append(line_figure(lines, x_label=TIME_LABEL, y_label=y_label, caption=caption, spans=spans))
    return figures


def _uploads(by_seed: Mapping[int, Document]) -> bool:
    return any(result["evaluation"]["total"]["num_uploads"] for result in by_seed.values())


def _line(
    name: str, by_seed: Mapping[int, Document], of: Callable[[Document, float], float | None], end_s: float
) -> Line:
    evaluations = [result["evaluation"] for result in by_seed.values()]
    return over_seeds(name, [window_line(name, one["windows"], one["window_s"], end_s, of) for one in evaluations])


def _timeline(folder: Path, results: Mapping[str, Mapping[int, Document]]) -> Timeline | None:
    """The drift segments, read from the first run; they are the same for all seeds."""
    for strategy, by_seed in results.items():
        for seed in by_seed:
            path = folder / f"{strategy}-{seed}"
            if (path / FILE).exists():
                return Timeline(1.0, {}).read(read_records(path))
    return None


def _segment_table(rows: Sequence[Document]) -> Table:
    means = [{"strategy": row["strategy"], "segment_miou": _means(row["segment_miou"])} for row in rows]
    columns = ["strategy", *dict.fromkeys(f"segment_miou.{name}" for row in rows for name in row["segment_miou"])]
    caption = "mIoU of the answers shown, means over seeds."
    return records_table(Row, means, columns, caption=caption, max_rows=len(rows))


def _strips(folder: Path, results: Mapping[str, Mapping[int, Document]], strategy: str) -> list[Block]:
    for seed, result in results.get(strategy, {}).items():
        classes = result["evaluation"]["classes"]
        if strips := overlay_strips(folder / f"{strategy}-{seed}", classes, {}):
            caption = Paragraph(f"Frames of {strategy} with seed {seed}.")
            return [caption, color_key(classes), *strips]
    return []


def _results(folder: Path, report: Document) -> dict[str, dict[int, Document]]:
    """The reports of the single runs that are still there, by strategy and seed."""
    found: dict[str, dict[int, Document]] = {}
    for row in report["rows"]:
        for seed in report["seeds"]:
            path = folder / f"{row['strategy']}-{seed}" / "report.json"
            if path.exists():
                found.setdefault(row["strategy"], {})[seed] = json.loads(path.read_text(encoding="utf-8"))
    return found
