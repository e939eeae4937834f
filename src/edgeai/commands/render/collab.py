"""The reports of `edgeai collab` for people."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.commands.render.text import amount, print_fields, print_json, print_table, seconds
from edgeai.core.config import dump_config

if TYPE_CHECKING:
    from edgeai.collab.config.pretrain import PretrainConfig
    from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig
    from edgeai.collab.metrics.evaluate import Part
    from edgeai.collab.metrics.latency import LatencySummary
    from edgeai.collab.pretrain.train import PretrainReport
    from edgeai.collab.reports.compare_report import CompareReport, Spread
    from edgeai.collab.reports.run_report import RunReport
    from edgeai.collab.sim.compare import ComparePlan


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


def show_run_plan(cfg: "CollabRunConfig", *, as_json: bool) -> None:
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


# --------------------------------------------------------------------------------------------------------------------
# compare


_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "miou": ("mIoU", lambda value: f"{value:.1%}"),
    "cpa": ("CPA", lambda value: f"{value:.1%}"),
    "accuracy": ("pixels right", lambda value: f"{value:.1%}"),
    "upload_rate": ("uploaded", lambda value: f"{value:.1%}"),
    "up_bytes": ("up", lambda value: amount(value, "B")),
    "down_bytes": ("down", lambda value: amount(value, "B")),
    "p50_s": ("p50", seconds),
    "p95_s": ("p95", seconds),
    "p99_s": ("p99", seconds),
    "missed_frac": ("missed", lambda value: f"{value:.1%}"),
    "bwt": ("BWT", lambda value: f"{value:+.3f}"),
    "fwt": ("FWT", lambda value: f"{value:+.3f}"),
}


def show_compare(path: Path, report: "CompareReport") -> None:
    """Prints a row for each strategy, then how much better or worse they are than the references."""
    metrics = [name for name in _COLUMNS if any(name in row.spreads for row in report.rows)]
    rows = [
        [row.strategy, *(_COLUMNS[name][1](row.spreads[name].mean) if name in row.spreads else "-" for name in metrics)]
        for row in report.rows
    ]
    print(f"means of {_seeds(report.seeds)}")
    print_table(["strategy", *(_COLUMNS[name][0] for name in metrics)], rows)
    for reference in dict.fromkeys(versus.reference for versus in report.versus):
        print()
        _show_versus(report, reference)
    for name, why in report.failures.items():
        print(f"failed: {name}: {why}")
    if report.interrupted:
        print(f"\nsome runs are missing; go on with: edgeai collab compare --resume {path}")
    print(f"\n{path}: make the page with: edgeai runs report {path}")


def show_compare_plan(cfg: "CollabCompareConfig", plan: "ComparePlan", *, as_json: bool) -> None:
    """Prints what would be played."""
    if as_json:
        print_json({"config": cfg.model_dump(mode="json"), "plan": plan.to_json()})
        return
    fields = {
        "strategies": ", ".join(cfg.strategies),
        "seeds": ", ".join(map(str, cfg.seeds)),
        "frames": "until the stream ends" if plan.num_frames is None else f"{plan.num_frames} in each stream",
        "runs": f"{len(plan.missing)} to play, {plan.num_runs - len(plan.missing)} done",
    }
    print_fields(fields)


def _show_versus(report: "CompareReport", reference: str) -> None:
    found = {(item.strategy, item.metric): item for item in report.versus if item.reference == reference}
    rows = []
    for strategy in dict.fromkeys(strategy for strategy, _ in found):
        miou = found.get((strategy, "miou"))
        ratios = [found.get((strategy, name)) for name in ("miou", "up_bytes", "p50_s")]
        rows.append(
            [
                strategy,
                "-" if miou is None else _range(miou.difference, "+.3f"),
                *("-" if item is None or item.ratio is None else _range(item.ratio, ".2f") for item in ratios),
            ]
        )
    print(f"against {reference}, on the same seed: mean (lowest to highest)")
    print_table(["strategy", "mIoU minus", "mIoU by", "uplink by", "p50 by"], rows)


def _range(spread: "Spread", form: str) -> str:
    mean, low, high = (format(value, form) for value in (spread.mean, spread.minimum, spread.maximum))
    return mean if low == high else f"{mean} ({low} to {high})"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


# --------------------------------------------------------------------------------------------------------------------
# pretrain


def show_pretrain(path: Path, report: "PretrainReport") -> None:
    """Prints what was trained and how good it is."""
    print_fields(
        {
            "part": f"{report.part}, {amount(report.num_parameters, 'parameters')}",
            "trained": f"{report.num_steps} steps on {report.scenes_seen} scenes in {seconds(report.train_s)}",
            "validation": ", ".join(f"{name} {value:.3f}" for name, value in report.val.items()),
            "peak memory": amount(report.peak_memory_bytes, "B"),
            "weights": report.weights,
        }
    )
    key = {"edge": "edge.model.weights", "cloud": "cloud.semantics.weights", "sam": "cloud.masks.checkpoint"}
    print(f"\nplay with it: edgeai collab run -c collab/default -s {key[report.part]}={path}")


def show_pretrain_plan(cfg: "PretrainConfig", *, as_json: bool) -> None:
    """Prints the resolved config."""
    print_json({"config": cfg.model_dump(mode="json")}) if as_json else print(dump_config(cfg), end="")
