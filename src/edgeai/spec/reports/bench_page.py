"""The report of `edgeai spec bench` as blocks: speeds, acceptance, costs, and the comparison of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.units import duration
from edgeai.spec.evaluation.bench.report import AnswerDifference, BenchReport

Document = Mapping[str, Any]

SETTING: tuple[str, ...] = (
    "target",
    "draft",
    "dtype",
    "runtime",
    "hardware",
    "prompts",
    "num_prompts",
    "num_answers",
    "max_tokens",
    "temperature",
    "repeats",
    "mode",
    "tree",
    "tree_why",
    "coverage_frac",
    "peak_memory_bytes",
)
ACCEPTANCE = ("accept_len", "num_tokens", "num_cycles", "draft_nodes")
CYCLE = ("cycle.draft_s", "cycle.verify_s", "cycle.commit_s", "cycle.rest_s")
LOSSLESS = ("ok", "num_answers", "num_equal", "num_ties", "num_mismatches", "noise")
EXACT = ("ok", "num_answers", "num_equal", "num_mismatches")
"""The same for the native runtime, which has no rounding noise."""
_MAX_DIFFERENCES = 8


def bench_summary(report: Document) -> list[Block]:
    """Return the tables that say what a benchmark found.

    Args:
        report: Its report.json.
    """
    found = leaves(BenchReport, report)
    blocks: list[Block] = [fields_table(found, SETTING), Heading("Speed"), _speed_table(report)]
    if report["mode"] == "speculative":
        blocks += [Heading("Acceptance"), fields_table(found, ACCEPTANCE), _acceptance_table(report)]
        blocks += [Heading("Time of a cycle"), fields_table(found, CYCLE)]
    blocks += [Heading("Cost of verification"), _cost_table(report)]
    if report["lossless"]:
        is_native = report.get("runtime") == "native"
        blocks += [
            Heading("Losslessness"),
            fields_table(found, [f"lossless.{name}" for name in (EXACT if is_native else LOSSLESS)]),
            *_differences(report["lossless"]),
        ]
        if is_native:
            blocks.append(Paragraph("The native runtime decodes the same tokens to the bit, drafted or not."))
    return blocks


def bench_details(_: Path, report: Document) -> list[Block]:
    """Return the figures of a benchmark's page.

    Args:
        _: Run directory.
        report: Its report.json.
    """
    costs = report["cost_curve"]
    curve = Line("T(n)", [cost["num_tokens"] for cost in costs], [1e3 * cost["verify_s"] for cost in costs])
    figures: list[Block] = [_figure(curve, "n", "T(n) (ms)", "Time to verify n tokens in one pass.")]
    if shares := report["acceptance"]:
        depths = list(range(1, len(shares) + 1))
        accepted = Line("accepted", depths, [100 * share for share in shares])
        figures.append(_figure(accepted, "depth in the tree", "accepted (%)", "Acceptance by depth in the tree."))
    return [Heading("Curves"), *figures]


def _figure(line: Line, x_label: str, y_label: str, caption: str) -> Figure:
    values = "; ".join(f"{x:g}: {y:.3g}" for x, y in zip(line.x, line.y, strict=True))
    alt = f"{y_label} by {x_label}: {values}"
    return line_figure([line], x_label=x_label, y_label=y_label, caption=caption, alt=alt)


def _speed_table(report: Document) -> Table:
    plain = report["plain_tokens_per_s"]
    rows: list[Sequence[Cell]] = [("plain", *_spread(plain), Number(1.0, "1.00"), None)]
    if lossless := report["lossless"]:
        same = f"{lossless['num_equal']} of {lossless['num_answers']}"
        ratio = report["ratio"]
        text = f"{ratio['median']:.2f}"
        if report["repeats"] > 1:
            text += f" ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})"
        rows.append(("speculative", *_spread(report["speculative_tokens_per_s"]), Number(ratio["median"], text), same))
    for peer in report["peers"]:
        ratio_of_medians = peer["tokens_per_s"]["median"] / plain["median"]
        same = f"{peer['num_equal']} of {peer['num_answers']}"
        ratio_cell = Number(ratio_of_medians, f"{ratio_of_medians:.2f}")
        rows.append((peer["name"], *_spread(peer["tokens_per_s"]), ratio_cell, same))
    caption = f"tokens/s: {report['tokens_per_s_definition']}. Ratio: to plain decoding of the same repeat."
    columns = ("tokens/s", "median", "lowest", "highest", "ratio", "same text as plain")
    return Table(columns, rows, caption, {"median": "max", "ratio": "max"})


def _spread(speed: Document) -> list[Cell]:
    return [Number(speed[name], f"{speed[name]:.1f}") for name in ("median", "minimum", "maximum")]


def _acceptance_table(report: Document) -> Table:
    rows = [(depth, cell_of(share, "%")) for depth, share in enumerate(report["acceptance"], start=1)]
    return Table(("depth", "accepted"), rows, f"Accepted: {report['acceptance_definition']}.")


def _cost_table(report: Document) -> Table:
    """One column per number of tokens."""
    costs = report["cost_curve"]
    first_s = costs[0]["verify_s"]
    rows: list[Sequence[Cell]] = [
        ("T(n)", *(Number(cost["verify_s"], duration(cost["verify_s"])) for cost in costs)),
        ("T(n)/T(1)", *(Number(cost["verify_s"] / first_s, f"{cost['verify_s'] / first_s:.2f}") for cost in costs)),
    ]
    columns = ["n", *(str(cost["num_tokens"]) for cost in costs)]
    return Table(columns, rows, "T(n): time to verify n tokens in one pass of the target.")


def _differences(lossless: Document) -> list[Block]:
    ordered = sorted(lossless["differences"], key=lambda entry: bool(entry["difference"]["is_tie"]))
    if not ordered:
        return [Paragraph("All speculative answers equal the plain ones token for token.")]
    return [records_table(AnswerDifference, ordered, max_rows=_MAX_DIFFERENCES)]
