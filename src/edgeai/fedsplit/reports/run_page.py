"""The report of `edgeai fedsplit sim` as blocks: tables, accuracy against cost, traffic, a round as a Gantt chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.config import read_tree
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Paragraph, Table
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import COLORS, INK, Line, draw_figure, line_figure
from edgeai.core.units import amount, duration, percent
from edgeai.fedsplit.reports.partition_page import histogram_figure
from edgeai.fedsplit.reports.run_report import TIMELINE, RoundRow, SimReport

Document = Mapping[str, Any]
"""A SimReport, or a piece of it, as plain values."""

OUTCOME: tuple[str, ...] = (
    "method",
    "cuts",
    "num_clients",
    "num_params",
    "accuracy",
    "best_accuracy",
    "epsilon",
    "seconds",
    "clients_j",
    "server_j",
    "client_memory_bytes",
    "client_held_bytes",
    "server_memory_bytes",
)
ROUND = (
    "round",
    "num_clients",
    "num_late",
    "loss",
    "accuracy",
    "bytes_up",
    "bytes_down",
    "end_s",
    "clients_j",
    "server_j",
)
_FIRST_ROUNDS, _LAST_ROUNDS = 3, 12
_MAX_LANES = 16
_MAX_SPANS = 4000
_PHASES = {"compute": COLORS[0], "up": COLORS[1], "down": COLORS[2]}
AXES = (
    ("rounds", lambda row: row["round"], 1.0),
    ("bytes, both ways (MB)", lambda row: row["bytes_up"] + row["bytes_down"], 1e6),
    ("virtual time (s)", lambda row: row["end_s"], 1.0),
    ("energy of clients and server (J)", lambda row: row["clients_j"] + row["server_j"], 1.0),
)
"""Axes that accuracy is drawn against: label, value of a round's row, unit."""


def sim_summary(report: Document) -> list[Block]:
    """Return the tables that say what a run found.

    Args:
        report: Its report.json.
    """
    blocks: list[Block] = [outcome_table(report), *(Paragraph(f"Warning: {line}") for line in report["warnings"])]
    if report["target"]:
        blocks.append(Paragraph(_target(report["target"])))
    blocks += [Heading("Rounds"), _round_table(report["rounds"]), Heading("Traffic"), traffic_table(report)]
    if report["leakage"] or report["guarantees"]:
        blocks += [Heading("Privacy"), *_privacy(report)]
    return blocks


def sim_details(folder: Path, report: Document) -> list[Block]:
    """Return the figures and further tables of a run's page.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    blocks: list[Block] = [Heading("Accuracy against cost"), *accuracy_figures(report["rounds"])]
    if any(sum(report[way].values()) for way in ("bytes_up", "bytes_down")):
        blocks.append(traffic_figure(report))
    if (spans := _spans(folder)) and (lanes := _lanes(spans)):
        blocks += [Heading("The first round"), gantt_figure(spans, lanes)]
    partition = read_tree(folder / "config.yaml")[0].get("partition", {}).get("kind", "")
    blocks += [Heading("Partition"), _partition(report["histograms"], partition)]
    if report["client_accuracy"]:
        blocks += [Heading("Each client's own model"), _own_models(report["client_accuracy"])]
    return blocks


def outcome_table(report: Document) -> Table:
    """Return accuracy, costs, and the values specific to the method."""
    found = leaves(SimReport, report)
    return fields_table(found, [*OUTCOME, *(path for path in found if path.startswith("figures."))])


def _round_table(rounds: Sequence[Document]) -> Table:
    """The first and last rounds of a long run."""
    num_left_out = max(0, len(rounds) - _FIRST_ROUNDS - _LAST_ROUNDS)
    shown = [*rounds[:_FIRST_ROUNDS], *rounds[_FIRST_ROUNDS + num_left_out :]]
    caption = "Traffic and energy are sums from the first round on."
    if num_left_out:
        caption += f" {num_left_out} rounds in between are left out."
    return records_table(RoundRow, shown, ROUND, caption=caption)


def accuracy_figures(rounds: Sequence[Document]) -> list[Block]:
    """Return the test accuracy over rounds, bytes, time and energy."""
    tested = [row for row in rounds if row["accuracy"] is not None]
    y = [100 * row["accuracy"] for row in tested]
    figures = (
        accuracy_figure([Line("accuracy", [value(row) / unit for row in tested], y)], label)
        for label, value, unit in AXES
    )
    return list(figures) if tested else []


def accuracy_figure(lines: Sequence[Line], x_label: str, note: str = "") -> Figure:
    """Draw test accuracy in percent over one of the axes."""
    return line_figure(
        lines,
        x_label=x_label,
        y_label="test accuracy (%)",
        caption=f"Test accuracy over {x_label.partition(' (')[0]}.{note}",
        alt=f"Line plot of test accuracy over {x_label}",
    )


def traffic_figure(report: Document) -> Figure:
    """Draw the bytes by kind, up and down."""
    ways = {"up": report["bytes_up"], "down": report["bytes_down"]}
    kinds = _kinds(report)

    def draw(axes: Any) -> None:
        left = [0.0, 0.0]
        for number, kind in enumerate(kinds):
            widths = [num_bytes[kind] / 1e6 for num_bytes in ways.values()]
            axes.barh(list(ways), widths, left=left, height=0.6, label=kind, color=COLORS[number], linewidth=0)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("MB over all rounds and clients")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(kinds), borderaxespad=0.2)

    return draw_figure(draw, caption="Traffic by kind.", alt="Bars of bytes up and down by kind", size_in=(5.2, 1.8))


def traffic_table(report: Document) -> Table:
    """Return the bytes by kind, and their sum."""
    up, down = report["bytes_up"], report["bytes_down"]
    rows: list[Sequence[Cell]] = [(kind, cell_of(up[kind], "B"), cell_of(down[kind], "B")) for kind in _kinds(report)]
    rows.append(("all", cell_of(sum(up.values()), "B"), cell_of(sum(down.values()), "B")))
    caption = "Size of the tensors sent, with side information and labels, without framing."
    return Table(("kind", "up", "down"), rows, caption=caption)


def _kinds(report: Document) -> list[str]:
    return [kind for kind in report["bytes_up"] if report["bytes_up"][kind] or report["bytes_down"][kind]]


def gantt_figure(spans: Sequence[Document], lanes: Sequence[tuple[str, int, int]]) -> Figure:
    """Draw the jobs of one round over virtual time.

    Args:
        spans: The jobs.
        lanes: (name, who, lane) from top to bottom.
    """
    place = {(who, lane): number for number, (_, who, lane) in enumerate(lanes)}
    offset = {"compute": 0.0, "up": -0.28, "down": 0.28}

    def draw(axes: Any) -> None:
        for what, color in _PHASES.items():
            bars: dict[int, list[tuple[float, float]]] = {}
            for span in spans:
                at = place.get((span["who"], span["lane"]))
                if span["what"] == what and at is not None:
                    bars.setdefault(at, []).append((span["begin_s"], span["end_s"] - span["begin_s"]))
            for at, jobs in bars.items():
                height = 0.44 if what == "compute" else 0.2
                middle = at + offset[what] * 1.2
                axes.broken_barh(jobs, (middle - height / 2, height), facecolors=color, edgecolors=color, linewidth=0.8)
            axes.plot([], [], color=color, linewidth=5, label=what)
        axes.set_yticks(range(len(lanes)), [name for name, *_ in lanes])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("virtual time (s)")
        axes.axhline(0.5, color=INK, linewidth=0.4, alpha=0.5)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    return draw_figure(
        draw,
        caption="The first round: computation; above it uploads, below it downloads. Transfers include their delay.",
        alt="Gantt chart of the first round by client",
        size_in=(7.5, 1.4 + 0.34 * len(lanes)),
    )


def _target(target: Document) -> str:
    accuracy = percent(target["accuracy"])
    if target["round"] is None:
        return f"The target accuracy of {accuracy} was not reached."
    return (
        f"The target accuracy of {accuracy} was reached in round {target['round']}, after "
        f"{amount(target['num_bytes'], 'B')}, {duration(target['seconds'])} and {amount(target['joules'], 'J')}."
    )


def _spans(folder: Path) -> list[Document]:
    path = folder / TIMELINE
    found: list[Document] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found[:_MAX_SPANS]


def _lanes(spans: Sequence[Document]) -> list[tuple[str, int, int]]:
    """The server's lanes, then the first clients."""
    seen = sorted({(span["who"], span["lane"]) for span in spans})
    servers = [(who, lane) for who, lane in seen if who < 0]
    clients = [(who, lane) for who, lane in seen if who >= 0]
    named = [("server" if len(servers) == 1 else f"server {lane + 1}", who, lane) for who, lane in servers[:4]]
    return named + [(f"client {who}", who, lane) for who, lane in clients[: _MAX_LANES - len(named)]]


def _partition(counts: Sequence[Sequence[int]], kind: str) -> Figure:
    return histogram_figure(
        counts,
        classes=[str(label) for label in range(len(counts[0]))],
        kind=kind,
        alt=f"Bars of the samples of {len(counts)} clients by class",
    )


def _privacy(report: Document) -> list[Block]:
    blocks: list[Block] = [Paragraph(sentence) for sentence in report["guarantees"]]
    leakage = report["leakage"]
    if not leakage:
        return blocks
    found = leaves(SimReport, report)
    hidden = ("num_private", "num_public", "dcor_batch")
    paths = [path for path in found if path.startswith("leakage.") and not path.endswith(hidden)]
    caption = (
        f"Client 0 after the last round: {leakage['num_private']} of its samples, attacked with "
        f"{leakage['num_public']} test samples as public data."
    )
    return [*blocks, fields_table(found, paths, caption=caption)]


def _own_models(accuracies: Sequence[float]) -> Table:
    shown = list(enumerate(accuracies))[:100]
    return Table(("client", "accuracy"), [(str(client), cell_of(value, "%")) for client, value in shown])
