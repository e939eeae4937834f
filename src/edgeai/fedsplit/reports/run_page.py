"""The report of `edgeai fedsplit sim` as blocks: tables, accuracy against cost, traffic, a round as a Gantt chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.config import read_tree
from edgeai.core.report.blocks import Block, Cell, Figure, Paragraph, Table, section
from edgeai.core.report.fields import cell_of, fields_table, leaves, records_table
from edgeai.core.report.plot import COLORS, INK, Line, bars_figure, draw_figure, legend_above, line_figure
from edgeai.core.units import amount, duration, percent
from edgeai.fedsplit.reports.leakage_report import Leakage
from edgeai.fedsplit.reports.partition_page import histogram_figure
from edgeai.fedsplit.reports.run_report import TIMELINE, RoundRow, SimReport

Document = Mapping[str, Any]
"""A SimReport, or a piece of it, as plain values."""

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
    blocks: list[Block] = [fields_table(leaves(SimReport, report))]
    blocks += [Paragraph(f"Warning: {line}") for line in report["warnings"]]
    if report["target"]:
        blocks.append(Paragraph(_target(report["target"])))
    blocks += section("Rounds", _round_table(report["rounds"]))
    blocks += section("Traffic", traffic_table(report))
    return blocks + section("Privacy", *_privacy(report))


def sim_details(folder: Path, report: Document) -> list[Block]:
    """Return the figures and further tables of a run's page.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    figures = accuracy_figures(report["rounds"])
    if _kinds(report):
        figures.append(traffic_figure(report))
    blocks = section("Accuracy against cost", *figures)
    if (spans := _spans(folder)) and (lanes := _lanes(spans)):
        blocks += section("The first round", gantt_figure(spans, lanes))
    partition = read_tree(folder / "config.yaml")[0].get("partition", {}).get("kind", "")
    blocks += section("Partition", _partition(report["histograms"], partition))
    if report["client_accuracy"]:
        blocks += section("Each client's own model", _own_models(report["client_accuracy"]))
    return blocks


def _round_table(rounds: Sequence[Document]) -> Table:
    """The first and last rounds of a long run."""
    num_left_out = max(0, len(rounds) - _FIRST_ROUNDS - _LAST_ROUNDS)
    shown = [*rounds[:_FIRST_ROUNDS], *rounds[_FIRST_ROUNDS + num_left_out :]]
    caption = "Traffic and energy are sums from the first round on."
    if num_left_out:
        caption += f" {num_left_out} rounds in between are left out."
    return records_table(RoundRow, shown, ROUND, caption=caption)


def accuracy_figures(rounds: Sequence[Document]) -> list[Figure]:
    """Return the test accuracy over rounds, bytes, time and energy."""
    tested = [row for row in rounds if row["accuracy"] is not None]
    y = [100 * row["accuracy"] for row in tested]
    if not tested:
        return []
    return [
        accuracy_figure([Line("accuracy", [value(row) / unit for row in tested], y)], label)
        for label, value, unit in AXES
    ]


def accuracy_figure(lines: Sequence[Line], x_label: str, note: str = "") -> Figure:
    """Draw test accuracy in percent over one of the axes."""
    caption = f"Test accuracy over {x_label.partition(' (')[0]}.{note}"
    return line_figure(lines, x_label=x_label, y_label="test accuracy (%)", caption=caption)


def traffic_figure(report: Document) -> Figure:
    """Draw the bytes by kind, up and down."""
    parts = {kind: [report[way][kind] for way in ("bytes_up", "bytes_down")] for kind in _kinds(report)}
    x_label, alt = "traffic of all rounds and clients", "Bars of bytes up and down by kind"
    return bars_figure(["up", "down"], parts, x_label=x_label, unit="B", caption="Traffic by kind.", alt=alt)


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
        legend_above(axes)

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
    if leakage := report["leakage"]:
        caption = (
            f"Client 0 after the last round: {leakage['num_private']} of its samples, attacked with "
            f"{leakage['num_public']} test samples as public data."
        )
        blocks.append(fields_table(leaves(Leakage, leakage), caption=caption))
    return blocks


def _own_models(accuracies: Sequence[float]) -> Table:
    shown = list(enumerate(accuracies))[:100]
    return Table(("client", "accuracy"), [(str(client), cell_of(value, "%")) for client, value in shown])
