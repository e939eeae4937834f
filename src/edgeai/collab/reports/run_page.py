"""The report of `edgeai collab run` as blocks: tables for the terminal, curves and pictures for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.collab.metrics.confusion import SegMetrics
from edgeai.collab.metrics.evaluate import Part
from edgeai.collab.reports.frame_records import FILE, FrameRecord, read_records
from edgeai.collab.reports.frame_strips import color_key, overlay_strips
from edgeai.collab.reports.run_report import RunReport, UpdateEvent
from edgeai.collab.reports.timeline import Timeline, window_line
from edgeai.collab.wire.traffic import TrafficSummary
from edgeai.core.report.blocks import Block, Cell, Figure, Paragraph, Table, section
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.units import duration, percent

MAX_UPDATES = 30
TIME_LABEL = "time in the stream (s)"
OUTCOME = (
    *(
        f"evaluation.{name}"
        for name in ("total.upload_rate", "upload_rate_bound", "total.up_bytes", "total.down_bytes")
    ),
    *(f"evaluation.latency.{name}" for name in ("p50_s", "p95_s", "p99_s")),
    *(f"evaluation.upload_latency.{name}" for name in ("p50_s", "p95_s")),
    *("evaluation.total.num_missed", "soft_latency_s", "hard_latency_s", "transfer.bwt", "transfer.fwt"),
    *("num_updates", "num_accepted", "num_swaps", "num_bad_frames"),
    *("cost.wall_s", "cost.frames_per_s", "cost.peak_memory_bytes"),
)
"""Rows of the table of costs; `cost` is known only right after the run."""
SEGMENT = (
    *("name", "begin_s", "num_frames", "quality.miou", "quality.cpa", "quality.accuracy"),
    *("upload_rate", "up_bytes", "down_bytes", "num_missed"),
)
SERIES = {
    "answer": lambda record: quality(record.loss),
    "edge": lambda record: quality(record.loss_edge),
    "cloud": lambda record: quality(record.loss_cloud),
    "uploaded": lambda record: float(record.uploaded),
    "refined": lambda record: float(record.answer == "cloud"),
    "score": lambda record: record.score,
    "delta": lambda record: record.delta,
}

Document = Mapping[str, Any]
"""A piece of report.json."""


def run_summary(report: Document) -> list[Block]:
    """Return the tables that say what a run found.

    Args:
        report: Its report.json, with `cost` if that is known.
    """
    segments, problems = report["evaluation"]["segments"], report["problems"]
    blocks: list[Block] = [Paragraph(_in_words(report)), _quality_table(report)]
    if len(segments) > 1:
        caption = "Quality of the answers shown, and traffic."
        blocks += section("Drift segments", records_table(Part, segments, SEGMENT, caption=caption, explained=False))
    blocks += section("Cost", fields_table(leaves(RunReport, report), OUTCOME))
    return blocks + section("Problems", *(Paragraph(line) for line in problems))


def run_details(folder: Path, report: Document) -> list[Block]:
    """Return the curves, pictures and further tables of a run's page.

    Args:
        folder: Run directory.
        report: Its report.json.
    """
    evaluation = report["evaluation"]
    blocks: list[Block] = []
    if (folder / FILE).exists() and evaluation["total"]["num_frames"]:
        timeline = Timeline(evaluation["window_s"], SERIES).read(read_records(folder))
        blocks += section("Over time", *time_figures(timeline, evaluation))
    if evaluation["total"]["quality"]:
        blocks += section("Classes", _class_table(report))
    if strips := overlay_strips(folder, evaluation["classes"], _about_frames(folder)):
        blocks += section("Frames", color_key(evaluation["classes"]), *strips)
    blocks += section("Link and queues", fields_table(leaves(TrafficSummary, report["traffic"])))
    if report["updates"]:
        blocks += section("Updates", records_table(UpdateEvent, report["updates"], max_rows=MAX_UPDATES))
    return blocks


def quality(loss: float | None) -> float | None:
    """Return a frame's mIoU, given its loss."""
    return None if loss is None else 1.0 - loss


def _in_words(report: Document) -> str:
    total, latency = report["evaluation"]["total"], report["evaluation"]["latency"]
    text = f"Strategy {report['strategy']} on {total['num_frames']} frames, {duration(report['duration_s'])} of stream"
    text += " (interrupted): " if report["interrupted"] else ": "
    if total["quality"]:
        text += f"mIoU {total['quality']['miou']:.3f}, "
    text += f"{percent(total['upload_rate'], 0)} of the frames uploaded"
    if latency:
        text += f", median latency {duration(latency['p50_s'])}"
    return text + "."


def _quality_table(report: Document) -> Block:
    total, alone = report["evaluation"]["total"]["quality"], report["alone"]
    if total is None:
        return Paragraph("The stream has no labels: accuracy is not known.")
    parts = {"answers shown": total, "edge alone": alone["edge"], "cloud alone": alone["cloud"]}
    caption = (
        "Quality over all frames. Answers shown: what the system showed at the deadline. Edge alone, cloud alone: if "
        "that side had answered every frame in time."
    )
    rows = [{"answers": name, **part} for name, part in parts.items() if part is not None]
    return records_table(SegMetrics, rows, caption=caption)


def time_figures(timeline: Timeline, evaluation: Document) -> list[Figure]:
    """Return the curves of mIoU, uploads, scores and link use over time."""
    spans, window_s, end_s = timeline.spans(), evaluation["window_s"], timeline.end_s
    mean = f"Means over {window_s:g} s."
    segments = " Shaded in turn, with their names above: the drift segments." if spans else ""

    def series(**titles: str) -> list[Line]:
        lines = [timeline.line(name, title) for name, title in titles.items()]
        return [line for line in lines if line is not None]

    def rate(name: str, key: str) -> Line:
        windows = evaluation["windows"]
        return window_line(name, windows, window_s, end_s, lambda window, length_s: window[key] * 8e-3 / length_s)

    plots = [
        (
            "mIoU of a frame",
            f"{mean}{segments} Equal lines cover one another.",
            series(answer="answers shown", edge="edge alone", cloud="cloud alone"),
        ),
        ("share of frames", mean, series(uploaded="uploaded", refined="answered by the cloud in time")),
        (
            "score",
            f"{mean} Frames that score below the threshold are uploaded.",
            series(score="confidence score", delta="threshold"),
        ),
        (
            "link use (kbit/s)",
            f"{mean} Down: answers and pushed models.",
            [rate("up", "up_bytes"), rate("down", "down_bytes")],
        ),
    ]
    return [
        line_figure(lines, x_label=TIME_LABEL, y_label=y_label, caption=caption, spans=spans)
        for y_label, caption, lines in plots
        if lines
    ]


def _class_table(report: Document) -> Table:
    parts = (report["evaluation"]["total"]["quality"], report["alone"]["edge"], report["alone"]["cloud"])
    rows: list[Sequence[Cell]] = [
        [name, *(cell_of(part["iou"][place], "1") if part else None for part in parts)]
        for place, name in enumerate(report["evaluation"]["classes"])
    ]
    columns = ("class", "answers shown", "edge alone", "cloud alone")
    return Table(columns, rows, caption="IoU; a dash where a class occurs neither in truth nor in prediction.")


def _about_frames(folder: Path) -> dict[int, str]:
    """Return a caption for each frame by its number."""
    return {record.index: _about(record) for record in read_records(folder)} if (folder / FILE).exists() else {}


def _about(record: FrameRecord) -> str:
    parts = [record.segment, f"answered by the {record.answer}" if record.answer != "stale" else "not answered in time"]
    if record.score is not None and record.delta is not None:
        sign = "<" if record.score < record.delta else ">="
        parts.append(f"score {record.score:.3f} {sign} {record.delta:.3f}")
    for name, loss in (("edge", record.loss_edge), ("cloud", record.loss_cloud)):
        if loss is not None:
            parts.append(f"mIoU of the {name} {1 - loss:.2f}")
    return ", ".join(parts) + "."
