"""The page of `edgeai collab run`: what came of one strategy on one stream, as blocks of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.collab.reports.frame_records import FILE, FrameRecord, read_records
from edgeai.collab.reports.frame_strips import colour_key, overlay_strips
from edgeai.collab.reports.timeline import Timeline, window_line
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.plot import Line, line_figure

MAX_UPDATES = 30
METRICS = (
    "Answers that stood: what the system showed by the deadline. IoU: pixels that prediction and truth both give to a"
    " class, as a share of those that either gives to it. mIoU: its mean over the classes. FWIoU: that mean weighted by"
    " how often a class is true. CPA: mean share of each class's pixels that are right."
)
"""What the columns and rows of the first table mean."""
Part = Mapping[str, Any]
"""A piece of report.json."""

SERIES = {
    "answer": lambda record: quality(record.loss),
    "edge": lambda record: quality(record.loss_edge),
    "cloud": lambda record: quality(record.loss_cloud),
    "uploaded": lambda record: float(record.uploaded),
    "refined": lambda record: float(record.answer == "cloud"),
    "score": lambda record: record.score,
    "delta": lambda record: record.delta,
}


def run_blocks(folder: Path, report: Part) -> list[Block]:
    """Tables, curves and pictures of one run.

    Args:
        folder: Run directory.
        report: Its report.json.
    """
    evaluation = report["evaluation"]
    blocks: list[Block] = [Paragraph(_in_words(report)), _quality_table(report)]
    blocks += [Paragraph(METRICS)] if evaluation["total"]["quality"] else []
    blocks += [_cost_table(report)]
    if (folder / FILE).exists() and evaluation["total"]["num_frames"]:
        timeline = Timeline(evaluation["window_s"], SERIES).read(read_records(folder))
        blocks += [Heading("Over time"), *time_figures(timeline, evaluation)]
    if len(evaluation["segments"]) > 1:
        blocks += [Heading("Drift segments"), _segment_table(evaluation["segments"])]
    blocks += [Heading("Classes"), _class_table(report)]
    if strips := overlay_strips(folder, evaluation["classes"], _about_frames(folder)):
        blocks += [Heading("Frames"), colour_key(evaluation["classes"]), *strips]
    blocks += [Heading("Link and queues"), _traffic_table(report["traffic"])]
    if report["updates"]:
        blocks += [Heading("Updates"), _update_table(report)]
    if report["problems"]:
        blocks += [Heading("Problems"), *(Paragraph(line) for line in report["problems"])]
    return blocks


def quality(loss: float | None) -> float | None:
    """From a frame's loss to its mIoU."""
    return None if loss is None else 1.0 - loss


def milliseconds(value_s: float | None) -> Cell:
    """A latency as a cell."""
    return None if value_s is None else Number(value_s, f"{value_s * 1e3:.0f} ms")


def size(num_bytes: float) -> Number:
    """Bytes as a cell."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return Number(num_bytes, f"{num_bytes / scale:.3g} {unit}")
    return Number(num_bytes, f"{num_bytes:.0f} B")


def decimals(share: float | None) -> Cell:
    """A quality as a cell."""
    return None if share is None else Number(share, f"{share:.3f}")


def percent(share: float | None) -> Cell:
    """A share as a cell."""
    return None if share is None else Number(share, f"{share:.1%}")


def _in_words(report: Part) -> str:
    total, latency = report["evaluation"]["total"], report["evaluation"]["latency"]
    text = f"Strategy {report['strategy']} on {total['num_frames']} frames ({report['duration_s']:.0f} s of stream"
    text += ", interrupted): " if report["interrupted"] else "): "
    if total["quality"]:
        text += f"mIoU {total['quality']['miou']:.3f}, "
    text += f"{total['upload_rate']:.0%} of the frames uploaded"
    if latency:
        text += f", median latency {latency['p50_s'] * 1e3:.0f} ms"
    return text + "."


def _quality_table(report: Part) -> Block:
    total, alone = report["evaluation"]["total"]["quality"], report["alone"]
    if total is None:
        return Paragraph("The stream has no labels: accuracy is not known.")
    rows = []
    for name, part in (("answers that stood", total), ("edge alone", alone["edge"]), ("cloud alone", alone["cloud"])):
        if part is not None:
            rows.append([name, *(decimals(part[metric]) for metric in ("miou", "cpa", "accuracy", "fwiou"))])
    caption = (
        "Of all frames together. Alone: the edge model as it was at each frame, or the cloud, had it answered every"
        " frame in time."
    )
    return Table(("", "mIoU", "CPA", "pixel accuracy", "FWIoU"), rows, caption=caption)


def _cost_table(report: Part) -> Table:
    evaluation = report["evaluation"]
    total, latency, transfer = evaluation["total"], evaluation["latency"] or {}, report["transfer"]
    bound = evaluation["upload_rate_bound"]
    rows: list[tuple[str, Cell, str]] = [
        ("upload rate", percent(total["upload_rate"]), "share of frames that arrived at the cloud"),
        ("upload rate, ±", percent(bound), "where the true rate lies at 95 % confidence, were frames independent"),
        ("uplink", size(total["up_bytes"]), "frames and headers"),
        ("downlink", size(total["down_bytes"]), "answers, model pushes and headers"),
        ("latency p50", milliseconds(latency.get("p50_s")), "median, from a frame to the answer that stood"),
        ("latency p95", milliseconds(latency.get("p95_s")), "95 of 100 frames took no longer"),
        ("latency p99", milliseconds(latency.get("p99_s")), "99 of 100 frames took no longer"),
        ("deadline misses", total["num_missed"], "frames whose cloud answer came late or never"),
        ("mean latency, soft", milliseconds(report["soft_latency_s"]), "expected from the score, as the edge's share"),
        ("mean latency, hard", milliseconds(report["hard_latency_s"]), "expected from the upload rate"),
        ("BWT", decimals(transfer["bwt"]), "backward transfer in mIoU; negative is forgetting"),
        ("FWT", decimals(transfer["fwt"]), "forward transfer in mIoU, over the untouched model"),
        ("unreadable frames", report["num_bad_frames"], "left out"),
    ]
    return Table(("", "value", "meaning"), [row for row in rows if row[1] is not None])


def time_figures(timeline: Timeline, evaluation: Part) -> list[Figure]:
    """mIoU, uploads, scores and link use over time."""
    spans, window_s, end_s = timeline.spans(), evaluation["window_s"], timeline.end_s
    x_label = "time in the stream (s)"
    figures = []

    def add(lines: Sequence[Line | None], y_label: str, caption: str) -> None:
        found = [line for line in lines if line is not None]
        if found:
            ends = "; ".join(f"{line.name} at the end {line.y[-1]:.3g}" for line in found)
            figures.append(
                line_figure(
                    found, x_label=x_label, y_label=y_label, caption=caption, alt=f"{y_label}: {ends}", spans=spans
                )
            )

    mean = f"Means over {window_s:g} s."
    shades = " Shaded in turn, with their names above: the drift segments." if spans else ""
    add(
        [
            timeline.line("answer", "answers that stood"),
            timeline.line("edge", "edge alone"),
            timeline.line("cloud", "cloud alone"),
        ],
        "mIoU of a frame",
        f"{mean}{shades} A line that is not seen lies behind another one.",
    )
    add(
        [timeline.line("uploaded", "uploaded"), timeline.line("refined", "answered by the cloud in time")],
        "share of frames",
        mean,
    )
    add(
        [timeline.line("score", "confidence score"), timeline.line("delta", "threshold")],
        "score",
        f"{mean} Frames that score below the threshold are uploaded.",
    )
    windows = evaluation["windows"]
    add(
        [
            window_line("up", windows, window_s, end_s, lambda window, length_s: window["up_bytes"] * 8e-3 / length_s),
            window_line(
                "down", windows, window_s, end_s, lambda window, length_s: window["down_bytes"] * 8e-3 / length_s
            ),
        ],
        "link use (kbit/s)",
        f"{mean} Down: answers and pushed models.",
    )
    return figures


def _segment_table(segments: Sequence[Part]) -> Table:
    rows: list[Sequence[Cell]] = []
    for segment in segments:
        part = segment["quality"] or {}
        shares = [decimals(part.get(name)) for name in ("miou", "cpa", "accuracy")]
        link = [percent(segment["upload_rate"]), size(segment["up_bytes"]), size(segment["down_bytes"])]
        begin = Number(segment["begin_s"], f"{segment['begin_s']:.1f} s")
        rows.append([segment["name"], begin, segment["num_frames"], *shares, *link, segment["num_missed"]])
    columns = (
        "segment",
        "begins",
        "frames",
        "mIoU",
        "CPA",
        "pixel accuracy",
        "uploads",
        "uplink",
        "downlink",
        "missed",
    )
    return Table(columns, rows, caption="Of the answers that stood. Missed: cloud answers that came late or never.")


def _class_table(report: Part) -> Block:
    total, alone = report["evaluation"]["total"]["quality"], report["alone"]
    if total is None:
        return Paragraph("The stream has no labels.")
    rows: list[Sequence[Cell]] = []
    for place, name in enumerate(report["evaluation"]["classes"]):
        row: list[Cell] = [name]
        row += [decimals(part["iou"][place]) if part else None for part in (total, alone["edge"], alone["cloud"])]
        rows.append(row)
    columns = ("class", "answers that stood", "edge alone", "cloud alone")
    return Table(columns, rows, caption="IoU. A dash: the class occurs neither in truth nor in prediction.")


def _traffic_table(traffic: Part) -> Table:
    rows: list[tuple[str, Cell]] = [
        ("frames up", traffic["up_frames"]),
        ("answers down", traffic["down_replies"]),
        ("bytes of answers", size(traffic["down_reply_bytes"])),
        ("models pushed", traffic["down_pushes"]),
        ("bytes of models", size(traffic["down_push_bytes"])),
        ("answers refined", traffic["refined"]),
        ("cloud answers too late to be shown", traffic["late"]),
        ("easy frames sent to explore", traffic["explored"]),
        ("frames labelled for training", traffic["labelled"]),
        ("times the cloud was given up", traffic["breaker_opened"]),
    ]
    rows += [(f"dropped: {cause}", num) for cause, num in traffic["drops"].items()]
    return Table(("", "number"), rows)


def _update_table(report: Part) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            f"{event['begin_s']:.1f} s",
            event["version"],
            event["accepted"],
            event["miner_accepted"],
            decimals(event["miou_before"]),
            decimals(event["miou_after"]),
            size(event["num_bytes"]),
        ]
        for event in report["updates"][:MAX_UPDATES]
    ]
    rest = report["num_updates"] - len(rows)
    caption = f"{report['num_accepted']} of {report['num_updates']} changed the edge model. "
    caption += "mIoU on held-out frames by the cloud's labels, before and after; a change for the worse is undone."
    caption += " Miner: the small net that gives the confidence score."
    caption += f" {rest} more are not listed here." if rest else ""
    columns = ("began", "version", "edge model changed", "miner changed", "mIoU before", "after", "push")
    return Table(columns, rows, caption=caption)


def _about_frames(folder: Path) -> dict[int, str]:
    """A line about each frame of which there are pictures."""
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
