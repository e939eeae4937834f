"""The report of `edgeai spec bench` as blocks: speeds, acceptance, costs, and the comparison of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Number, Paragraph, Table, section
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.units import duration
from edgeai.spec.evaluation.bench.report import AnswerDifference, BenchReport, CycleTimes, Lossless, TaskResult

Document = Mapping[str, Any]

ACCEPTANCE = ("accept_len", "num_tokens", "num_cycles", "draft_nodes")
EXACT = ("ok", "num_answers", "num_equal", "num_mismatches")
"""What is shown of losslessness for the native runtime, which has no rounding noise."""
_MAX_DIFFERENCES = 8


def bench_summary(report: Document) -> list[Block]:
    """Return the tables that say what a benchmark found.

    Args:
        report: Its report.json.
    """
    found = leaves(BenchReport, report)
    blocks: list[Block] = [fields_table(found), *section("Speed", _speed_table(report)), *_peers(report)]
    if report["mode"] == "speculative":
        blocks += section("Acceptance", fields_table(found, ACCEPTANCE), _acceptance_table(report))
        if tasks := report.get("tasks"):  # not in reports of older versions
            blocks += section("Acceptance by task", records_table(TaskResult, tasks))
        blocks += section("Mean times of a cycle", fields_table(leaves(CycleTimes, report["cycle"])))
    blocks += section("Cost of verification", _cost_table(report))
    if lossless := report["lossless"]:
        is_native = report.get("runtime") == "native"
        blocks += section(
            "Losslessness",
            fields_table(leaves(Lossless, lossless), EXACT if is_native else None),
            _differences(lossless),
        )
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
    caption = "Time to verify n tokens in one pass."
    figures = [line_figure([curve], x_label="n (tokens)", y_label="T(n) (ms)", caption=caption)]
    if shares := report["acceptance"]:
        accepted = Line("accepted", range(1, len(shares) + 1), [100 * share for share in shares])
        caption = "Acceptance by depth in the tree."
        figures.append(line_figure([accepted], x_label="depth in the tree", y_label="accepted (%)", caption=caption))
    return section("Curves", *figures)


def _speed_table(report: Document) -> Table:
    """Return one row per decoder; the speed of prompts is shown where there are peers to compare it with."""
    plain, peers = report["plain_tokens_per_s"], report["peers"]

    def row(name: str, speed: Document, prompts: Cell, *rest: Cell) -> Sequence[Cell]:
        return (name, *_spread(speed), *([prompts] if peers else []), *rest)

    rows = [row("plain", plain, _prompt_speed(report), Number(1.0, "1.00"), None)]
    if lossless := report["lossless"]:
        same = f"{lossless['num_equal']} of {lossless['num_answers']}"
        ratio = Number(report["ratio"]["median"], _ratio_text(report["ratio"], report["repeats"]))
        rows.append(row("speculative", report["speculative_tokens_per_s"], None, ratio, same))
    for peer in peers:
        ratio_of_medians = peer["tokens_per_s"]["median"] / plain["median"]
        same = f"{peer['num_equal']} of {peer['num_answers']}"
        ratio_cell = Number(ratio_of_medians, f"{ratio_of_medians:.2f}")
        rows.append(row(peer["name"], peer["tokens_per_s"], _prompt_speed(peer), ratio_cell, same))
    caption = f"tokens/s: {report['tokens_per_s_definition']}. Ratio: to plain decoding of the same repeat"
    caption += (
        "; for peers, of the medians. Prompt tokens/s: prompt tokens / time to the first token." if peers else "."
    )
    prompts = ["prompt tokens/s"] if peers else []
    columns = ("tokens/s", "median", "lowest", "highest", *prompts, "ratio", "same text as plain")
    return Table(columns, rows, caption, dict.fromkeys(["median", *prompts, "ratio"], "max"))


def _spread(speed: Document) -> list[Cell]:
    return [Number(speed[name], f"{speed[name]:.1f}") for name in ("median", "minimum", "maximum")]


def _prompt_speed(measured: Document) -> Cell:
    speed = measured.get("prompt_tokens_per_s")  # reports of older versions have none
    return Number(speed["median"], f"{speed['median']:.0f}") if speed else None


def _ratio_text(ratio: Document, repeats: int) -> str:
    spread = f" ({ratio['minimum']:.2f} to {ratio['maximum']:.2f})" if repeats > 1 else ""
    return f"{ratio['median']:.2f}{spread}"


def _peers(report: Document) -> list[Block]:
    """Return the speed of edgeai relative to each peer, and the peers' settings."""
    peers = [peer for peer in report["peers"] if "plain_ratio" in peer]  # not in reports of older versions
    blocks: list[Block] = []
    if peers:
        rows = [
            (
                peer["name"],
                *(
                    Number(ratio["median"], _ratio_text(ratio, peer["num_repeats"])) if (ratio := peer[key]) else None
                    for key in ("plain_ratio", "speculative_ratio", "prompt_ratio")
                ),
                cell_of(peer["equal_frac"], "%"),
            )
            for peer in peers
        ]
        columns = ("edgeai / peer", "plain", "speculative", "prompts", "equal tokens")
        caption = (
            "Ratio: tokens/s of edgeai / tokens/s of the peer in the same repeat, median (lowest to highest); "
            "for prompts, prompt tokens/s. Equal tokens: tokens of edgeai's plain answers before the first one that "
            "the peer chose differently; other arithmetic decides near-ties differently."
        )
        settings = [(peer["name"], peer["settings"]) for peer in peers]
        tables = Table(columns, rows, caption), Table(("peer", "settings"), settings)
        blocks += section("Comparison with peers", *tables)
    if wrong := [peer["name"] for peer in peers if peer.get("num_unexplained")]:
        text = f"{' and '.join(wrong)}: answers differ by more than float32 rounding; report this as a bug."
        blocks += section("Differences from peers", Paragraph(text))
    if failures := report.get("failed_peers"):
        failed = [(failure["name"], failure["reason"]) for failure in failures]
        blocks += section("Failed peers", Table(("peer", "reason"), failed))
    return blocks


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


def _differences(lossless: Document) -> Block:
    ordered = sorted(lossless["differences"], key=lambda entry: bool(entry["difference"]["is_tie"]))
    if not ordered:
        return Paragraph("All speculative answers equal the plain ones token for token.")
    return records_table(AnswerDifference, ordered, max_rows=_MAX_DIFFERENCES)
