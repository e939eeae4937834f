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
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Paragraph, Table
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.units import duration, percent

MAX_UPDATES = 30
QUALITY = ("miou", "cpa", "accuracy", "fwiou")
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
SEGMENT: tuple[str, ...] = (
    "name",
    "begin_s",
    "num_frames",
    "quality.miou",
    "quality.cpa",
    "quality.accuracy",
    "upload_rate",
    "up_bytes",
    "down_bytes",
    "num_missed",
)
UPDATE = ("begin_s", "version", "accepted", "miner_accepted", "miou_before", "miou_after", "num_bytes")
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
    segments = report["evaluation"]["segments"]
    blocks: list[Block] = [Paragraph(_in_words(report)), _quality_table(report)]
    if len(segments) > 1:
        caption = "Quality of the answers shown, and traffic."
        table = records_table(Part, segments, SEGMENT, caption=caption, explained=False)
        blocks += [Heading("Drift segments"), table]
    blocks += [Heading("Cost"), fields_table(leaves(RunReport, report), OUTCOME)]
    if report["problems"]:
        blocks += [Heading("Problems"), *(Paragraph(line) for line in report["problems"])]
    return blocks


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
        blocks += [Heading("Over time"), *time_figures(timeline, evaluation)]
    if evaluation["total"]["quality"]:
        blocks += [Heading("Classes"), _class_table(report)]
    if strips := overlay_strips(folder, evaluation["classes"], _about_frames(folder)):
        blocks += [Heading("Frames"), color_key(evaluation["classes"]), *strips]
    found = leaves(RunReport, report)
    traffic = [path for path in found if path.startswith("traffic.") and path != "traffic.up_bytes"]
    blocks += [Heading("Link and queues"), fields_table(found, traffic)]
    if report["updates"]:
        updates = records_table(UpdateEvent, report["updates"], UPDATE, max_rows=MAX_UPDATES)
        blocks += [Heading("Updates"), updates]
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
    known = {name: part for name, part in parts.items() if part is not None}
    caption = (
        "Quality over all frames. Answers shown: what the system showed at the deadline. Edge alone, cloud alone: if "
        "that side had answered every frame in time."
    )
    return records_table(SegMetrics, list(known.values()), QUALITY, names=list(known), caption=caption)


def time_figures(timeline: Timeline, evaluation: Document) -> list[Figure]:
    """Return the curves of mIoU, uploads, scores and link use over time."""
    spans, window_s, end_s = timeline.spans(), evaluation["window_s"], timeline.end_s
    mean = f"Means over {window_s:g} s."
    segments = " Shaded in turn, with their names above: the drift segments." if spans else ""
    windows = evaluation["windows"]

    def rate(name: str, key: str) -> Line:
        return window_line(name, windows, window_s, end_s, lambda window, length_s: window[key] * 8e-3 / length_s)

    groups: list[tuple[list[Line | None], str, str]] = [
        (
            [
                timeline.line("answer", "answers shown"),
                timeline.line("edge", "edge alone"),
                timeline.line("cloud", "cloud alone"),
            ],
            "mIoU of a frame",
            f"{mean}{segments} Equal lines cover one another.",
        ),
        (
            [timeline.line("uploaded", "uploaded"), timeline.line("refined", "answered by the cloud in time")],
            "share of frames",
            mean,
        ),
        (
            [timeline.line("score", "confidence score"), timeline.line("delta", "threshold")],
            "score",
            f"{mean} Frames that score below the threshold are uploaded.",
        ),
        (
            [rate("up", "up_bytes"), rate("down", "down_bytes")],
            "link use (kbit/s)",
            f"{mean} Down: answers and pushed models.",
        ),
    ]
    figures = []
    for lines, y_label, caption in groups:
        known = [line for line in lines if line is not None]
        if known:
            ends = "; ".join(f"{line.name} at the end {line.y[-1]:.3g}" for line in known)
            figures.append(
                line_figure(
                    known,
                    x_label="time in the stream (s)",
                    y_label=y_label,
                    caption=caption,
                    alt=f"{y_label}: {ends}",
                    spans=spans,
                )
            )
    return figures


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
