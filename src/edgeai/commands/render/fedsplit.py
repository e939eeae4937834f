"""The reports of `edgeai fedsplit` for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.commands.render.text import amount, print_fields, print_json, print_table, seconds
from edgeai.core.config import dump_config

if TYPE_CHECKING:
    from edgeai.fedsplit.config.advise import AdviseConfig
    from edgeai.fedsplit.experiments.compare import Job
    from edgeai.fedsplit.flower.local_deployment.home import Home
    from edgeai.fedsplit.privacy.leakage import Leakage
    from edgeai.fedsplit.reports.advise_report import AdviseReport, Choice
    from edgeai.fedsplit.reports.compare_report import CompareReport, Spread
    from edgeai.fedsplit.reports.partition_report import PartitionReport
    from edgeai.fedsplit.reports.run_report import RoundRow, SimReport
    from edgeai.fedsplit.sim.plan import SimPlan
    from edgeai.fedsplit.sim.verify import VerifyReport

_MAX_ROUNDS = 20
_MAX_CLIENTS = 40
_MAX_CLASSES = 12


def show_sim(path: Path, report: "SimReport") -> None:
    """Prints what came of a run: rounds, then bytes, time, energy, memory, leakage."""
    print_table(
        ["round", "clients", "late", "loss", "accuracy", "up", "down", "virtual time", "energy"],
        [_round_row(row) for row in _thinned(report.rounds)],
    )
    print()
    print_fields({name: text for name, text in _sim_fields(report).items() if text})
    for name, text in zip(("guarantee", *[""] * len(report.guarantees)), report.guarantees, strict=False):
        print(f"{name or '':<13} {text}")
    for warning in report.warnings:
        print(f"warning: {warning}")
    print(f"\n{path}: as a page: edgeai runs report {path}")


def show_sim_plan(plan: "SimPlan", *, as_json: bool) -> None:
    """Prints what a run would do."""
    if as_json:
        print_json(plan.to_json())
        return
    print_table(
        ["layer", "parameters", "forward", "output", "a cut here sends", "client's share of FLOPs"],
        [
            [
                row.name,
                f"{row.num_params:,}",
                amount(row.forward_flops, "FLOP"),
                " x ".join(map(str, row.output_shape)),
                f"{amount(row.cut_bytes, 'B')} a sample",
                f"{row.client_frac:.1%}",
            ]
            for row in plan.layers
        ],
    )
    print()
    sizes = f"{min(plan.clients):,} to {max(plan.clients):,}" if len(set(plan.clients)) > 1 else f"{plan.clients[0]:,}"
    print_fields(
        {
            "method": plan.method,
            "cut after": ", ".join(plan.cuts) or "no cut: clients train the whole model",
            "data": f"{plan.data}: {plan.num_train:,} training and {plan.num_test:,} test samples, "
            f"{plan.num_classes} classes",
            "clients": f"{len(plan.clients)}, each with {sizes} samples",
            "work": f"{plan.num_rounds} rounds, {plan.steps_per_round:,} steps a round",
        }
    )
    for warning in plan.warnings:
        print(f"warning: {warning}")


def show_advise(path: Path, report: "AdviseReport") -> None:
    """Prints the recommendation and the Pareto set."""
    for line in report.recommendation:
        print(line)
    print()
    print_table(
        [
            *("method", "cut after", "a round takes", "all bytes", "energy", "client memory", "server memory"),
            *("client's share", "labels leave"),
        ],
        [_choice_row(choice) for choice in report.best],
        title="Of one round; nothing else is as good in time, bytes, energy and client memory",
    )
    for note in report.notes:
        print(f"note: {note}")
    print(f"\n{path}: all {len(report.choices)} choices and pictures: edgeai runs report {path}")


def show_advise_plan(cfg: "AdviseConfig", *, as_json: bool) -> None:
    """Prints the resolved config."""
    print_json({"config": cfg.model_dump(mode="json")}) if as_json else print(dump_config(cfg), end="")


def show_partition(report: "PartitionReport", page: Path | None) -> None:
    """Prints who holds what."""
    summary = report.summary
    shown = summary.clients[:_MAX_CLIENTS]
    with_counts = len(report.classes) <= _MAX_CLASSES
    print_table(
        ["client", "samples", "label distance", *(report.classes if with_counts else ["classes"])],
        [
            [
                part.client,
                part.num_samples,
                f"{part.label_distance:.2f}",
                *(part.class_counts if with_counts else [sum(count > 0 for count in part.class_counts)]),
            ]
            for part in shown
        ],
    )
    if len(shown) < len(summary.clients):
        print(f"... and {len(summary.clients) - len(shown)} more clients")
    print(
        f"\n{report.dataset}, {report.kind}: {summary.num_samples:,} samples, Gini of sizes {summary.size_gini:.2f}, "
        f"mean label distance {summary.mean_label_distance:.2f} (0: as the whole, 1: nothing in common)"
    )
    if page is not None:
        print(f"{page}: the same with a picture")


def show_verify(report: "VerifyReport") -> None:
    """Prints every fact and whether it holds."""
    for check in report.checks:
        mark = "ok  " if check.holds else "FAIL"
        print(f"{mark} {check.number:>2}. {check.fact}  ({seconds(check.seconds)})")
        print(f"         {check.detail}")
    num_checks = len(report.checks)
    print(f"\n{num_checks - report.num_failed} of {num_checks} hold")


def show_compare(path: Path, report: "CompareReport") -> None:
    """Prints one row for each method."""
    print_table(
        [
            "method",
            "accuracy",
            "up",
            "down",
            "virtual time",
            "clients",
            "client memory",
            "server memory",
            *_extra(report),
        ],
        [
            [
                row.label,
                _percents(row.accuracy),
                amount(row.bytes_up.mean, "B"),
                amount(row.bytes_down.mean, "B"),
                seconds(row.seconds.mean),
                amount(row.clients_j.mean, "J"),
                amount(row.client_memory_bytes.mean, "B"),
                amount(row.server_memory_bytes.mean, "B"),
                *_extra(report, row),
            ]
            for row in report.rows
        ],
    )
    seeds = report.rows[0].seeds
    print(f"\nmeans over {len(seeds)} seed{'s' * (len(seeds) > 1)}; accuracy with its least and largest")
    for name, reason in report.failures.items():
        print(f"failed: {name}: {reason}")
    print(f"\n{path}: as a page: edgeai runs report {path}")


def show_compare_plan(jobs: "list[Job]", missing: "list[Job]", *, as_json: bool) -> None:
    """Prints the runs of a comparison."""
    if as_json:
        print_json({"runs": [job.name for job in jobs], "missing": [job.name for job in missing]})
        return
    open_names = {job.name for job in missing}
    for job in jobs:
        print(f"{job.name}{'' if job.name in open_names else '  (done)'}")
    print(f"\n{len(missing)} of {len(jobs)} runs to do")


def _extra(report: "CompareReport", row: object = None) -> list[str]:
    """Columns that only some comparisons have: of the target and of leakage."""
    columns: dict[str, str] = {}
    if report.target_accuracy is not None:
        name = f"bytes to {report.target_accuracy:.0%}"
        columns[name] = _spread_text(getattr(row, "target_bytes", None), "B")
        columns[f"time to {report.target_accuracy:.0%}"] = _seconds_text(getattr(row, "target_seconds", None))
    if any(one.dcor is not None for one in report.rows):
        columns["dCor(x, z)"] = _number_text(getattr(row, "dcor", None))
    if any(one.inversion_ssim is not None for one in report.rows):
        columns["inversion SSIM"] = _number_text(getattr(row, "inversion_ssim", None))
    return list(columns) if row is None else list(columns.values())


def _spread_text(found: "Spread | None", unit: str) -> str:
    return "-" if found is None else amount(found.mean, unit)


def _seconds_text(found: "Spread | None") -> str:
    return "-" if found is None else seconds(found.mean)


def _number_text(found: "Spread | None") -> str:
    return "-" if found is None else f"{found.mean:.3f}"


def _percents(found: "Spread") -> str:
    if found.least == found.largest:
        return f"{found.mean:.2%}"
    return f"{found.mean:.2%} ({found.least:.2%} - {found.largest:.2%})"


def _choice_row(choice: "Choice") -> list[object]:
    return [
        choice.method,
        choice.cut or "-",
        seconds(choice.seconds),
        amount(choice.total_bytes, "B"),
        amount(choice.total_j, "J"),
        amount(choice.client_memory_bytes, "B"),
        amount(choice.server_memory_bytes, "B"),
        f"{choice.client_params_frac:.1%}",
        "yes" if choice.labels_leave else "no",
    ]


def _round_row(row: "RoundRow") -> list[object]:
    return [
        row.round,
        row.num_clients,
        row.num_late,
        None if row.loss is None else f"{row.loss:.4f}",
        None if row.accuracy is None else f"{row.accuracy:.2%}",
        amount(row.bytes_up, "B"),
        amount(row.bytes_down, "B"),
        seconds(row.end_s),
        amount(row.clients_j + row.server_j, "J"),
    ]


def _thinned(rows: "tuple[RoundRow, ...]") -> "list[RoundRow]":
    """The first and last rounds of a long run."""
    if len(rows) <= _MAX_ROUNDS:
        return list(rows)
    return [*rows[:3], *rows[3 - _MAX_ROUNDS :]]


def _sim_fields(report: "SimReport") -> dict[str, str]:
    """Names and texts; empty ones are left out."""
    own = report.client_accuracy
    target = report.target
    reached = ""
    if target is not None:
        reached = f"not reached: {target.accuracy:.1%}"
        if target.round is not None and target.num_bytes is not None:
            assert target.seconds is not None
            assert target.joules is not None
            reached = (
                f"{target.accuracy:.1%} in round {target.round}, after {amount(target.num_bytes, 'B')}, "
                f"{seconds(target.seconds)}, {amount(target.joules, 'J')}"
            )
    return {
        "method": report.method + (f", cut after {', '.join(report.cuts)}" if report.cuts else ""),
        "model": f"{report.num_params:,} parameters, {report.num_clients} clients",
        "accuracy": "" if report.accuracy is None else f"{report.accuracy:.2%}, best {report.best_accuracy:.2%}",
        "by client": f"{min(own):.2%} to {max(own):.2%}, each client's own model" if own else "",
        "target": reached,
        "up": _kinds(report.bytes_up),
        "down": _kinds(report.bytes_down),
        "virtual time": seconds(report.seconds),
        "energy": f"{amount(report.clients_j, 'J')} at clients, {amount(report.server_j, 'J')} at the server",
        "memory": f"{amount(report.client_memory_bytes, 'B')} at a client "
        f"({amount(report.client_held_bytes, 'B')} of it held while the server works), "
        f"{amount(report.server_memory_bytes, 'B')} at the server",
        "leakage": "" if report.leakage is None else _leakage(report.leakage),
        "epsilon": "" if report.epsilon is None else f"{report.epsilon:.3g} of the client part's weights (DP-SGD)",
        "figures": ", ".join(f"{name} {value:.4g}" for name, value in report.figures.items()),
    }


def _kinds(num_bytes: Mapping[str, int]) -> str:
    parts = [f"{name} {amount(count, 'B')}" for name, count in num_bytes.items() if count]
    return f"{amount(sum(num_bytes.values()), 'B')}: {', '.join(parts)}" if parts else "nothing"


def _leakage(found: "Leakage") -> str:
    parts = []
    if found.dcor is not None:
        parts.append(f"dCor(x, z) {found.dcor:.3f} (unrelated data: {found.dcor_if_unrelated:.3f})")
    for name, quality in (("decoder", found.inversion), ("UnSplit", found.unsplit), ("FSHA", found.fsha)):
        if quality is not None:
            similarity = "" if quality.ssim is None else f", SSIM {quality.ssim:.3f}"
            parts.append(f"{name} MSE {quality.mse:.3g}{similarity}")
    if found.labels is not None:
        parts.append(
            f"labels by gradient: AUC {found.labels.auc_norm:.3f} by norm, {found.labels.auc_cosine:.3f} by cosine"
        )
    return "; ".join(parts)


def show_up(home: "Home", *, as_json: bool) -> None:
    """Where a Flower deployment is, and what to do with it."""
    if as_json:
        found = {"home": str(home.path), "superlink": home.address, "num_nodes": home.num_nodes, "root": home.root}
        print_json(found)
        return
    print_fields({"home": home.path, "SuperLink": home.address, "SuperNodes": home.num_nodes})
    if home.has_superlink and home.root is not None:
        print(f"copy {home.root} to each device, and there:")
        print(f"       edgeai fedsplit up --superlink {home.address} --ssl-ca-certfile FILE --nodes 1 --first NUMBER")
    if home.has_superlink:
        options = f"-s backend.kind=flower -s num_clients={home.num_nodes or 'N'} -s backend.home={home.path}"
        if home.root is not None:
            options += f" -s backend.stream_host={home.host}"
        print(f"train: edgeai fedsplit sim {options}")
    print(f"end:   edgeai fedsplit down {home.path}")


def show_down(path: Path, num_ended: int, *, as_json: bool) -> None:
    """How much was ended."""
    if as_json:
        print_json({"home": str(path), "num_ended": num_ended})
    else:
        print(f"ended {num_ended} processes of {path}" if num_ended else f"nothing was up in {path}")


def show_exported(path: Path, *, as_json: bool) -> None:
    """How to run an app."""
    if as_json:
        print_json({"app": str(path)})
    else:
        print(f"wrote {path}: run it with `flwr run {path}`")
