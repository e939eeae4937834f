"""The reports of `edgeai collab` for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.collab.schema import CollabRunConfig
from edgeai.commands._render import amount, print_fields, print_json, print_table, seconds
from edgeai.core.config import dump_config

if TYPE_CHECKING:
    from edgeai.collab.evaluate import Part
    from edgeai.collab.latency import LatencySummary
    from edgeai.collab.run_report import RunReport


def show_run(path: Path, report: "RunReport") -> None:
    """Prints what came of a run: quality by drift segment, then traffic, latency and learning."""
    evaluation = report.evaluation
    parts = [*evaluation.segments, evaluation.total] if len(evaluation.segments) > 1 else [evaluation.total]
    print_table(
        ["segment", "frames", "mIoU", "CPA", "pixels right", "uploaded", "up", "down"], [_part_row(p) for p in parts]
    )
    print()
    print_fields({name: text for name, text in _fields(report).items() if text})
    for problem in report.problems:
        print(f"problem: {problem}")
    print(f"\n{path}: frames.jsonl has a line for each frame")


def show_run_plan(cfg: CollabRunConfig, *, as_json: bool) -> None:
    """Prints the resolved config."""
    print_json({"config": cfg.model_dump(mode="json")}) if as_json else print(dump_config(cfg), end="")


def run_document(path: Path, report: "RunReport") -> dict[str, Any]:
    """The JSON document of a run; what it cost this machine is beside the report, which is the same everywhere."""
    cost = report.cost
    return {
        "run": path,
        **report.to_json(),
        "cost": {
            "wall_s": cost.wall_s,
            "frames_per_s": cost.frames_per_s,
            "peak_memory_bytes": cost.peak_memory_bytes,
        },
    }


def _part_row(part: "Part") -> Sequence[object]:
    quality = part.quality
    shares = (None,) * 3 if quality is None else (quality.miou, quality.cpa, quality.accuracy)
    cells = [_percent(share) for share in (*shares, part.upload_rate)]
    return [part.name, part.num_frames, *cells, amount(part.up_bytes, "B"), amount(part.down_bytes, "B")]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _fields(report: "RunReport") -> dict[str, str]:
    """Names and texts; empty ones are left out."""
    evaluation, traffic, alone = report.evaluation, report.traffic, report.alone
    total = evaluation.total
    sides = [f"{name} {q.miou:.1%}" for name, q in (("edge", alone.edge), ("cloud", alone.cloud)) if q is not None]
    drops = ", ".join(f"{count} {cause}" for cause, count in traffic.drops.items())
    learned = f"{report.num_updates} updates, {report.num_accepted} of the edge model kept, {report.num_swaps} swaps"
    transfer = [
        f"{n} {v:+.3f}" for n, v in (("BWT", report.transfer.bwt), ("FWT", report.transfer.fwt)) if v is not None
    ]
    bad = f", {report.num_bad_frames} could not be read" if report.num_bad_frames else ""
    return {
        "strategy": report.strategy + (" (interrupted)" if report.interrupted else ""),
        "stream": f"{report.num_frames} frames{bad}, {seconds(report.duration_s)} of virtual time",
        "mIoU if alone": ", ".join(sides),
        "latency": _latency(evaluation.latency),
        "of the cloud's": _latency(evaluation.upload_latency),
        "missed deadline": f"{total.num_missed} of {total.num_frames} frames",
        "cloud": f"{traffic.refined} answers shown, {traffic.late} late, {traffic.explored} explored",
        "pushes": f"{traffic.down_pushes} versions, {amount(traffic.down_push_bytes, 'B')}"
        if traffic.down_pushes
        else "",
        "dropped": drops,
        "learning": learned if report.num_updates else "",
        "transfer": ", ".join(transfer) + " mIoU" if transfer and report.num_updates else "",
        "simulator": f"{report.cost.frames_per_s:.1f} frames/s, {seconds(report.cost.wall_s)}, "
        f"peak memory {amount(report.cost.peak_memory_bytes, 'B')}",
    }


def _latency(latency: "LatencySummary | None") -> str:
    if latency is None:
        return ""
    return f"p50 {seconds(latency.p50_s)}, p95 {seconds(latency.p95_s)}, p99 {seconds(latency.p99_s)}"
