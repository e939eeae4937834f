"""The report of `edgeai collab compare` as blocks: tables for the terminal, curves and pictures for the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.collab.reports.compare_report import METRICS
from edgeai.collab.reports.frame_records import FILE, read_records
from edgeai.collab.reports.frame_strips import color_key, overlay_strips
from edgeai.collab.reports.run_page import Document
from edgeai.collab.reports.timeline import Timeline, over_seeds, window_line
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.fields import cell_of
from edgeai.core.report.pareto import Point, pareto_figure
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.stats import Spread
from edgeai.core.units import quantity

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
        blocks += [Heading("Range over seeds"), *_range_tables(rows)]
    if report["failures"]:
        blocks += [Heading("Failures"), Table(("run", "reason"), list(report["failures"].items()))]
    for reference in _references(report):
        blocks += [Heading(f"Against {reference}"), versus_table(report["versus"], reference)]
    if any(len(row["segment_miou"]) > 1 for row in rows):
        blocks += [Heading("Drift segments"), _segment_table(rows)]
    return blocks


def compare_details(folder: Path, report: Document) -> list[Block]:
    """Return the curves and pictures of a comparison's page.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    rows, references, results = report["rows"], _references(report), _results(folder, report)
    blocks: list[Block] = [Heading("Accuracy against cost"), *_pareto(rows, references)]
    blocks += [Heading("Over time"), *_time_figures(folder, results, references)]
    shown = next((row["strategy"] for row in rows if row["strategy"] in references), rows[0]["strategy"])
    return blocks + _strips(folder, results, shown)


def _references(report: Document) -> list[str]:
    return list(dict.fromkeys(versus["reference"] for versus in report["versus"]))


def _in_words(report: Document) -> str:
    num, seeds = len(report["rows"]), ", ".join(map(str, report["seeds"]))
    text = f"{num} strategies on the same streams, seeds {seeds}."
    return text + (" The comparison was interrupted: some runs are missing." if report["interrupted"] else "")


def main_table(rows: Sequence[Document]) -> Table:
    """Return one row per strategy with its means over seeds."""
    names = _known(rows)
    caption = "Means over seeds. " + " ".join(f"{METRICS[n].about.label}: {METRICS[n].about.meaning}." for n in names)
    best: dict[str, Any] = {METRICS[name].about.label: METRICS[name].about.best for name in names}
    return _metric_table(rows, names, lambda name, spread: cell_of(spread["mean"], _unit(name)), caption, best)


def versus_table(versus: Sequence[Document], reference: str) -> Table:
    """Return differences and ratios of the strategies to one reference."""
    found = {(item["strategy"], item["metric"]): item for item in versus if item["reference"] == reference}
    columns = {(name, "difference"): f"{METRICS[name].about.label} −" for name in DIFFERENCES}
    columns |= {(name, "ratio"): f"{METRICS[name].about.label} ÷" for name in RATIOS}
    shown = {
        (name, kind): label
        for (name, kind), label in columns.items()
        if any(item[kind] is not None for (_, metric), item in found.items() if metric == name)
    }
    rows: list[Sequence[Cell]] = []
    for strategy in dict.fromkeys(strategy for strategy, _ in found):
        cells = [found.get((strategy, name), {}).get(kind) for name, kind in shown]
        forms = ["+.3f" if kind == "difference" else ".2f" for _, kind in shown]
        rows.append([strategy, *(_signed(spread, form) for spread, form in zip(cells, forms, strict=True))])
    caption = f"−: difference to {reference}, ÷: ratio to it, on the same seed; mean (lowest to highest seed)."
    return Table(("strategy", *shown.values()), rows, caption=caption)


def _signed(spread: Mapping[str, float] | None, form: str) -> Cell:
    if spread is None:
        return None
    mean, low, high = (format(spread[name], form) for name in ("mean", "minimum", "maximum"))
    return Number(spread["mean"], mean if low == high else f"{mean} ({low} to {high})")


def _known(rows: Sequence[Document]) -> list[str]:
    return [name for name in METRICS if any(name in row["spreads"] for row in rows)]


def _unit(name: str) -> str:
    return METRICS[name].about.unit


def _metric_table(
    rows: Sequence[Document],
    names: Sequence[str],
    show: Callable[[str, Mapping[str, float]], Cell],
    caption: str = "",
    best: Mapping[str, Any] | None = None,
) -> Table:
    cells = [
        [row["strategy"], *(show(name, row["spreads"][name]) if name in row["spreads"] else None for name in names)]
        for row in rows
    ]
    return Table(("strategy", *(METRICS[name].about.label for name in names)), cells, caption, best or {})


def _range_tables(rows: Sequence[Document]) -> list[Block]:
    """Quality, then cost: the range over seeds."""

    def show(name: str, spread: Mapping[str, float]) -> Cell:
        low, high = (quantity(spread[end], _unit(name)) for end in ("minimum", "maximum"))
        return Number(spread["mean"], low if low == high else f"{low} to {high}")

    known = _known(rows)
    groups = ([name for name in known if name in QUALITY], [name for name in known if name not in QUALITY])
    return [_metric_table(rows, names, show) for names in groups if names]


def _pareto(rows: Sequence[Document], references: Sequence[str]) -> list[Block]:
    found: list[Block] = []
    for metric, scale, x_label in (("up_bytes", 1e-6, "uplink (MB)"), ("p50_s", 1e3, "median latency (ms)")):
        points = [
            Point(row["strategy"], _spread(row, metric).scaled(scale), _spread(row, "miou"))
            for row in rows
            if metric in row["spreads"] and "miou" in row["spreads"] and ABLATION not in row["strategy"]
        ]
        if points:
            found.append(pareto_figure(points, marked=references, x_label=x_label, y_label="mIoU"))
    return found or [Paragraph("The streams have no labels: accuracy is not known.")]


def _spread(row: Document, metric: str) -> Spread:
    return Spread.of(list(row["values"][metric].values()))


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
                figures.append(_figure(lines, y_label, timeline))
    return figures


def _figure(lines: Sequence[Line], y_label: str, timeline: Timeline) -> Figure:
    ends = "; ".join(f"{line.name} at the end {line.y[-1]:.3g}" for line in lines)
    return line_figure(
        lines,
        x_label="time in the stream (s)",
        y_label=y_label,
        caption="Lines: mean over seeds; bands: lowest to highest seed.",
        alt=f"{y_label}: {ends}",
        spans=timeline.spans(),
    )


def _uploads(by_seed: Mapping[int, Document]) -> bool:
    return any(result["evaluation"]["total"]["num_uploads"] for result in by_seed.values())


def _line(
    name: str, by_seed: Mapping[int, Document], of: Callable[[Document, float], float | None], end_s: float
) -> Line:
    found = []
    for result in by_seed.values():
        evaluation = result["evaluation"]
        windows = [w for w in evaluation["windows"] if w["num_frames"] and of(w, 1.0) is not None]
        found.append(window_line(name, windows, evaluation["window_s"], end_s, of))  # type: ignore[arg-type]
    return over_seeds(name, found)


def _timeline(folder: Path, results: Mapping[str, Mapping[int, Document]]) -> Timeline | None:
    """The drift segments, read from the first run; they are the same for all seeds."""
    for strategy, by_seed in results.items():
        for seed in by_seed:
            path = folder / f"{strategy}-{seed}"
            if (path / FILE).exists():
                return Timeline(1.0, {}).read(read_records(path))
    return None


def _segment_table(rows: Sequence[Document]) -> Table:
    segments = list(dict.fromkeys(name for row in rows for name in row["segment_miou"]))
    cells: list[Sequence[Cell]] = [
        [row["strategy"], *(cell_of(row["segment_miou"].get(name, {}).get("mean"), "1") for name in segments)]
        for row in rows
    ]
    best: dict[str, Any] = dict.fromkeys(segments, "max")
    return Table(("strategy", *segments), cells, caption="mIoU of the answers shown, means over seeds.", best=best)


def _strips(folder: Path, results: Mapping[str, Mapping[int, Document]], strategy: str) -> list[Block]:
    for seed, result in results.get(strategy, {}).items():
        classes = result["evaluation"]["classes"]
        if strips := overlay_strips(folder / f"{strategy}-{seed}", classes, {}):
            caption = Paragraph(f"Frames of {strategy} with seed {seed}.")
            return [Heading("Frames"), caption, color_key(classes), *strips]
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
