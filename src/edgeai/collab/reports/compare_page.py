"""The page of `edgeai collab compare`: strategies side by side, as blocks of a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.collab.reports.compare_report import Spread
from edgeai.collab.reports.frame_records import FILE, read_records
from edgeai.collab.reports.frame_strips import colour_key, overlay_strips
from edgeai.collab.reports.pareto import Point, pareto_figure
from edgeai.collab.reports.run_page import Part, milliseconds, percent, size
from edgeai.collab.reports.timeline import Timeline, over_seeds, window_line
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.plot import Line, Span, line_figure

LINES = 4
"""Strategies in one plot beside the references."""

Show = Callable[[float], Cell]
TABLE: dict[str, tuple[str, Show]] = {
    "miou": ("mIoU", lambda value: Number(value, f"{value:.3f}")),
    "cpa": ("CPA", lambda value: Number(value, f"{value:.3f}")),
    "accuracy": ("pixel accuracy", lambda value: Number(value, f"{value:.3f}")),
    "upload_rate": ("uploads", percent),
    "up_bytes": ("uplink", size),
    "down_bytes": ("downlink", size),
    "p50_s": ("p50", milliseconds),
    "p95_s": ("p95", milliseconds),
    "p99_s": ("p99", milliseconds),
    "missed_frac": ("missed", percent),
    "bwt": ("BWT", lambda value: Number(value, f"{value:+.3f}")),
    "fwt": ("FWT", lambda value: Number(value, f"{value:+.3f}")),
}
"""Columns: metric, title, how a value is written."""
CURVES: dict[str, Callable[[Part, float], float | None]] = {
    "mIoU": lambda window, _: window["quality"]["miou"] if window["quality"] else None,
    "share of frames uploaded": lambda window, _: window["upload_rate"],
    "uplink (kbit/s)": lambda window, length_s: window["up_bytes"] * 8e-3 / length_s,
}
"""By the label of the axis, from a window and its length in seconds."""
QUALITY = ("miou", "cpa", "accuracy", "bwt", "fwt")
VERSUS = ("miou", "cpa")
RATIOS = ("miou", "up_bytes", "down_bytes", "p50_s", "p95_s")
ABLATION = "-no-"
"""In the names of strategies that only show what a part is worth; they stay out of pictures of cost."""


def compare_blocks(folder: Path, report: Part) -> list[Block]:
    """Tables and curves of a comparison.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    rows = report["rows"]
    references = list(dict.fromkeys(versus["reference"] for versus in report["versus"]))
    results = _results(folder, report)
    blocks: list[Block] = [Paragraph(_in_words(report)), main_table(rows)]
    if len(report["seeds"]) > 1:
        blocks += [Heading("From the lowest to the highest seed"), *_range_tables(rows)]
    if report["failures"]:
        blocks += [Heading("Failures"), Table(("run", "why"), list(report["failures"].items()))]
    blocks += [Heading("Accuracy against cost"), *_pareto(rows, references)]
    for reference in references:
        blocks += [Heading(f"Against {reference}"), _versus_table(report["versus"], reference)]
    blocks += [Heading("Over time"), *_time_figures(folder, results, references)]
    if any(len(row["segment_miou"]) > 1 for row in rows):
        blocks += [Heading("Drift segments"), _segment_table(rows)]
    shown = next((row["strategy"] for row in rows if row["strategy"] in references), rows[0]["strategy"])
    blocks += _strips(folder, results, shown)
    return blocks


def spread_cell(spread: Mapping[str, float], show: Show) -> Cell:
    """Mean, and in brackets the lowest and the highest value."""
    mean, low, high = (_text(show(spread[name])) for name in ("mean", "minimum", "maximum"))
    return Number(spread["mean"], mean if low == high else f"{mean} ({low} to {high})")


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else str(cell)


def _in_words(report: Part) -> str:
    num, seeds = len(report["rows"]), ", ".join(map(str, report["seeds"]))
    text = f"{num} strategies on the same streams, of seeds {seeds}."
    return text + (" The comparison was interrupted: some runs are missing." if report["interrupted"] else "")


def main_table(rows: Sequence[Part]) -> Table:
    """A row for each strategy: means over seeds."""
    metrics = [name for name in TABLE if any(name in row["spreads"] for row in rows)]
    cells: list[Sequence[Cell]] = []
    for row in rows:
        spreads = row["spreads"]
        found = [TABLE[name][1](spreads[name]["mean"]) if name in spreads else None for name in metrics]
        cells.append([row["strategy"], *found])
    best: dict[str, Any] = {TABLE[name][0]: "max" for name in ("miou", "cpa", "accuracy") if name in metrics}
    caption = (
        "Means over seeds. p50, p95, p99: latency from a frame to the answer that stood. Missed: frames whose cloud"
        " answer came late or never. BWT, FWT: what learning one drift segment does to earlier and later ones, in mIoU."
    )
    return Table(("strategy", *(TABLE[name][0] for name in metrics)), cells, caption=caption, best=best)


def _range_tables(rows: Sequence[Part]) -> list[Block]:
    """Quality, then cost: how far the seeds are apart."""
    found: list[Block] = []
    known = [name for name in TABLE if any(name in row["spreads"] for row in rows)]
    for metrics in ([n for n in known if n in QUALITY], [n for n in known if n not in QUALITY]):
        cells = [
            [row["strategy"], *(_range(row["spreads"].get(name), TABLE[name][1]) for name in metrics)] for row in rows
        ]
        if metrics:
            found.append(Table(("strategy", *(TABLE[name][0] for name in metrics)), cells))
    return found


def _range(spread: Mapping[str, float] | None, show: Show) -> Cell:
    if spread is None:
        return None
    low, high = _text(show(spread["minimum"])), _text(show(spread["maximum"]))
    return Number(spread["mean"], low if low == high else f"{low} to {high}")


def _versus_table(versus: Sequence[Part], reference: str) -> Table:
    found = {(item["strategy"], item["metric"]): item for item in versus if item["reference"] == reference}
    strategies = list(dict.fromkeys(strategy for strategy, _ in found))
    differences = [name for name in VERSUS if any((strategy, name) in found for strategy in strategies)]
    ratios = [
        name
        for name in RATIOS
        if any(found.get((strategy, name), {}).get("ratio") is not None for strategy in strategies)
    ]
    rows: list[Sequence[Cell]] = []
    for strategy in strategies:
        row: list[Cell] = [strategy]
        for name in differences:
            item = found.get((strategy, name))
            row.append(None if item is None else spread_cell(item["difference"], lambda v: Number(v, f"{v:+.3f}")))
        for name in ratios:
            ratio = found.get((strategy, name), {}).get("ratio")
            row.append(None if ratio is None else spread_cell(ratio, lambda v: Number(v, f"{v:.2f}")))
        rows.append(row)
    columns = [f"{TABLE[name][0]} −" for name in differences] + [f"{TABLE[name][0]} ÷" for name in ratios]
    caption = f"−: difference to {reference}, ÷: ratio to it, on the same seed; then mean (lowest to highest)."
    return Table(("strategy", *columns), rows, caption=caption)


def _pareto(rows: Sequence[Part], references: Sequence[str]) -> list[Block]:
    found: list[Block] = []
    for metric, scale, x_label in (("up_bytes", 1e-6, "uplink (MB)"), ("p50_s", 1e3, "median latency (ms)")):
        points = [
            Point(row["strategy"], _scaled(row["spreads"][metric], scale), _scaled(row["spreads"]["miou"], 1.0))
            for row in rows
            if metric in row["spreads"] and "miou" in row["spreads"] and ABLATION not in row["strategy"]
        ]
        if points:
            caption = "Dashed: no strategy is better than these at the same cost. Bars: lowest to highest over seeds."
            found.append(pareto_figure(points, marked=references, x_label=x_label, caption=caption))
    return found or [Paragraph("The streams have no labels: accuracy is not known.")]


def _scaled(spread: Mapping[str, float], scale: float) -> Spread:
    return Spread(*(spread[name] * scale for name in ("mean", "minimum", "maximum")))


def _time_figures(folder: Path, results: Mapping[str, Mapping[int, Part]], references: Sequence[str]) -> list[Block]:
    """Curves of a few strategies at a time, the references among them every time."""
    timeline = _timeline(folder, results)
    if timeline is None:
        return [Paragraph("The records of the runs are gone.")]
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
                figures.append(_figure(lines, y_label, timeline.spans()))
    return figures


def _figure(lines: Sequence[Line], y_label: str, spans: Sequence[Span]) -> Figure:
    ends = "; ".join(f"{line.name} at the end {line.y[-1]:.3g}" for line in lines)
    return line_figure(
        lines,
        x_label="time in the stream (s)",
        y_label=y_label,
        caption="Lines: mean over seeds; bands: lowest to highest.",
        alt=f"{y_label}: {ends}",
        spans=spans,
    )


def _uploads(by_seed: Mapping[int, Part]) -> bool:
    return any(result["evaluation"]["total"]["num_uploads"] for result in by_seed.values())


def _line(name: str, by_seed: Mapping[int, Part], of: Callable[[Part, float], float | None], end_s: float) -> Line:
    found = []
    for result in by_seed.values():
        evaluation = result["evaluation"]
        windows = [w for w in evaluation["windows"] if w["num_frames"] and of(w, 1.0) is not None]
        found.append(window_line(name, windows, evaluation["window_s"], end_s, of))  # type: ignore[arg-type]
    return over_seeds(name, found)


def _timeline(folder: Path, results: Mapping[str, Mapping[int, Part]]) -> Timeline | None:
    """Segments of the first run; those of other seeds are as long."""
    for strategy, by_seed in results.items():
        for seed in by_seed:
            path = folder / f"{strategy}-{seed}"
            if (path / FILE).exists():
                return Timeline(1.0, {}).read(read_records(path))
    return None


def _segment_table(rows: Sequence[Part]) -> Table:
    segments = list(dict.fromkeys(name for row in rows for name in row["segment_miou"]))
    cells: list[Sequence[Cell]] = []
    for row in rows:
        miou = row["segment_miou"]
        shown = [TABLE["miou"][1](miou[name]["mean"]) if name in miou else None for name in segments]
        cells.append([row["strategy"], *shown])
    best: dict[str, Any] = dict.fromkeys(segments, "max")
    return Table(("strategy", *segments), cells, caption="mIoU of the answers that stood, means over seeds.", best=best)


def _strips(folder: Path, results: Mapping[str, Mapping[int, Part]], strategy: str) -> list[Block]:
    for seed, result in results.get(strategy, {}).items():
        classes = result["evaluation"]["classes"]
        if strips := overlay_strips(folder / f"{strategy}-{seed}", classes, {}):
            about = Paragraph(f"Of {strategy} with seed {seed}.")
            return [Heading("Frames"), about, colour_key(classes), *strips]
    return []


def _results(folder: Path, report: Part) -> dict[str, dict[int, Part]]:
    """Reports of the single runs, as far as they are still there."""
    found: dict[str, dict[int, Part]] = {}
    for row in report["rows"]:
        for seed in report["seeds"]:
            path = folder / f"{row['strategy']}-{seed}" / "report.json"
            if path.exists():
                result = json.loads(path.read_text(encoding="utf-8"))
                found.setdefault(row["strategy"], {})[seed] = result
    return found
