"""The page of `edgeai fedsplit sim`: accuracy against what it cost, traffic by kind, a round as a Gantt chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.core.config import load_config
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.plot import COLOURS, INK, Line, draw_figure, line_figure
from edgeai.fedsplit.advise.recommendation import in_bytes, in_joules, in_seconds
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.protocol.message import KINDS
from edgeai.fedsplit.reports.partition_page import histogram_figure
from edgeai.fedsplit.sim.train import TIMELINE

Part = Mapping[str, Any]
"""A SimReport, or a piece of it, as plain values."""

_MAX_LANES = 16
_MAX_SPANS = 4000
_PHASES = {"compute": COLOURS[0], "up": COLOURS[1], "down": COLOURS[2]}
AXES = (
    ("rounds", lambda row: row["round"], 1.0),
    ("bytes, both ways (MB)", lambda row: row["bytes_up"] + row["bytes_down"], 1e6),
    ("virtual time (s)", lambda row: row["end_s"], 1.0),
    ("energy of clients and server (J)", lambda row: row["clients_j"] + row["server_j"], 1.0),
)
"""What accuracy is drawn against: label, value of a round's row, unit."""


def sim_blocks(folder: Path, report: Part) -> list[Block]:
    """Everything about one run.

    Args:
        folder: Its run directory.
        report: Its report.json.
    """
    cfg = load_config(SimConfig, folder / "config.yaml")
    blocks: list[Block] = [outcome_table(report)]
    blocks += [Paragraph(warning) for warning in report["warnings"]]
    blocks += [Heading("Accuracy against cost"), *accuracy_figures({report["method"]: report["rounds"]})]
    if report["target"]:
        blocks.append(Paragraph(_target(report["target"])))
    blocks += [Heading("Traffic"), traffic_figure(report), traffic_table(report)]
    if (spans := _spans(folder)) and (lanes := _lanes(spans)):
        blocks += [Heading("The first round"), gantt_figure(spans, lanes)]
    blocks += [Heading("Who has what"), _partition(report, cfg)]
    if report["leakage"] or report["guarantees"]:
        blocks += [Heading("Privacy"), *_privacy(report)]
    if report["client_accuracy"]:
        blocks += [Heading("Each client's own model"), _own_models(report["client_accuracy"])]
    return blocks


def outcome_table(report: Part) -> Table:
    """The outcome in readable units."""
    rows: list[tuple[str, Cell]] = [
        ("method", report["method"]),
        ("cut after", ", ".join(report["cuts"]) or "no cut"),
        ("clients", report["num_clients"]),
        ("parameters", report["num_params"]),
        ("accuracy", _percent(report["accuracy"])),
        ("best accuracy", _percent(report["best_accuracy"])),
        ("up", size(sum(report["bytes_up"].values()))),
        ("down", size(sum(report["bytes_down"].values()))),
        ("virtual time", Number(report["seconds"], in_seconds(report["seconds"]))),
        ("energy of all clients", Number(report["clients_j"], in_joules(report["clients_j"]))),
        ("energy of the server", Number(report["server_j"], in_joules(report["server_j"]))),
        ("memory of a client", size(report["client_memory_bytes"])),
        ("of it while the server works", size(report["client_held_bytes"])),
        ("memory of the server", size(report["server_memory_bytes"])),
    ]
    if report["epsilon"] is not None:
        rows.append(("epsilon of the client part (DP-SGD)", report["epsilon"]))
    rows += [(name, value) for name, value in report["figures"].items()]
    return Table(("", "value"), rows)


def accuracy_figures(rounds: Mapping[str, Sequence[Part]]) -> list[Block]:
    """Test accuracy over rounds, bytes, time and energy.

    Args:
        rounds: Rows of rounds by the name of their line.
    """
    figures: list[Block] = []
    for label, value, unit in AXES:
        lines = []
        for name, rows in rounds.items():
            tested = [row for row in rows if row["accuracy"] is not None]
            x, y = [value(row) / unit for row in tested], [100 * row["accuracy"] for row in tested]
            lines.append(Line(name, x, y))
        if any(line.x for line in lines):
            figures.append(
                line_figure(
                    lines,
                    x_label=label,
                    y_label="test accuracy (%)",
                    caption=f"Test accuracy over {label.partition(' (')[0]}.",
                    alt=f"Line plot of test accuracy over {label}",
                )
            )
    return figures


def traffic_figure(report: Part) -> Figure:
    """Bytes by kind, up and down."""
    ways = {"up": report["bytes_up"], "down": report["bytes_down"]}
    kinds = [kind for kind in KINDS if any(num_bytes[kind] for num_bytes in ways.values())]

    def draw(axes: Any) -> None:
        left = [0.0, 0.0]
        for number, kind in enumerate(kinds):
            widths = [num_bytes[kind] / 1e6 for num_bytes in ways.values()]
            axes.barh(list(ways), widths, left=left, height=0.6, label=kind, color=COLOURS[number], linewidth=0)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("MB over all rounds and clients")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(kinds) or 1, borderaxespad=0.2)

    return draw_figure(
        draw,
        caption="What crossed, by kind.",
        alt="Bars of bytes up and down by kind",
        size_in=(5.2, 1.8),
    )


def traffic_table(report: Part) -> Table:
    """Bytes by kind."""
    rows = [
        (kind, size(report["bytes_up"][kind]), size(report["bytes_down"][kind]))
        for kind in KINDS
        if report["bytes_up"][kind] or report["bytes_down"][kind]
    ]
    caption = "Counted on the tensors that cross, side information and labels included, framing not."
    return Table(("kind", "up", "down"), rows, caption=caption)


def gantt_figure(spans: Sequence[Part], lanes: Sequence[tuple[str, int, int]]) -> Figure:
    """Who did what, when, in one round.

    Args:
        spans: The jobs.
        lanes: (name, who, lane) from top to bottom.
    """
    place = {(who, lane): number for number, (_, who, lane) in enumerate(lanes)}
    offset = {"compute": 0.0, "up": -0.28, "down": 0.28}

    def draw(axes: Any) -> None:
        for what, colour in _PHASES.items():
            bars: dict[int, list[tuple[float, float]]] = {}
            for span in spans:
                at = place.get((span["who"], span["lane"]))
                if span["what"] == what and at is not None:
                    bars.setdefault(at, []).append((span["begin_s"], span["end_s"] - span["begin_s"]))
            for at, jobs in bars.items():
                height = 0.44 if what == "compute" else 0.2
                middle = at + offset[what] * 1.2
                axes.broken_barh(
                    jobs, (middle - height / 2, height), facecolors=colour, edgecolors=colour, linewidth=0.8
                )
            axes.plot([], [], color=colour, linewidth=5, label=what)
        axes.set_yticks(range(len(lanes)), [name for name, *_ in lanes])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("virtual time (s)")
        axes.axhline(0.5, color=INK, linewidth=0.4, alpha=0.5)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    return draw_figure(
        draw,
        caption="The first round: computing, and above and below it what goes up and comes down. Transfers include "
        "their delay.",
        alt="Gantt chart of the first round by client",
        size_in=(7.5, 1.4 + 0.34 * len(lanes)),
    )


def size(num_bytes: float) -> Number:
    """A readable number of bytes."""
    return Number(num_bytes, in_bytes(num_bytes))


def _percent(share: float | None) -> Cell:
    return None if share is None else Number(share, f"{share:.2%}")


def _target(target: Part) -> str:
    if target["round"] is None:
        return f"{target['accuracy']:.1%} was not reached."
    return (
        f"{target['accuracy']:.1%} was reached in round {target['round']}, after {in_bytes(target['num_bytes'])}, "
        f"{in_seconds(target['seconds'])} and {in_joules(target['joules'])}."
    )


def _spans(folder: Path) -> list[Part]:
    path = folder / TIMELINE
    found: list[Part] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found[:_MAX_SPANS]


def _lanes(spans: Sequence[Part]) -> list[tuple[str, int, int]]:
    """The server's lanes, then the first clients."""
    seen = sorted({(span["who"], span["lane"]) for span in spans})
    servers = [(who, lane) for who, lane in seen if who < 0]
    clients = [(who, lane) for who, lane in seen if who >= 0]
    named = [("server" if len(servers) == 1 else f"server {lane + 1}", who, lane) for who, lane in servers[:4]]
    return named + [(f"client {who}", who, lane) for who, lane in clients[: _MAX_LANES - len(named)]]


def _partition(report: Part, cfg: SimConfig) -> Figure:
    counts = report["histograms"]
    return histogram_figure(
        counts,
        classes=[str(label) for label in range(len(counts[0]))],
        kind=cfg.partition.kind,
        alt=f"Bars of the samples of {len(counts)} clients by class",
    )


def _privacy(report: Part) -> list[Block]:
    blocks: list[Block] = [Paragraph(sentence) for sentence in report["guarantees"]]
    leakage = report["leakage"]
    if not leakage:
        return blocks
    rows: list[tuple[str, Cell]] = []
    if leakage["dcor"] is not None:
        rows.append(("distance correlation of inputs and what is sent", leakage["dcor"]))
        rows.append(("the same for unrelated pairs", leakage["dcor_if_unrelated"]))
    for name, field in (("decoder", "inversion"), ("UnSplit", "unsplit"), ("hijacking (FSHA)", "fsha")):
        if leakage[field] is not None:
            rows += [(f"{name}: {measure}", value) for measure, value in leakage[field].items() if value is not None]
    if leakage["judged_accuracy_frac"] is not None:
        rows.append(("classifier on reconstructions: accuracy", _percent(leakage["judged_accuracy_frac"])))
        rows.append(("classifier on the originals: accuracy", _percent(leakage["judge_accuracy_frac"])))
    if leakage["labels"] is not None:
        rows += [(f"labels: {name}", value) for name, value in leakage["labels"].items() if value is not None]
    caption = (
        f"Client 0 after the last round: {leakage['num_private']} of its samples attacked by someone with "
        f"{leakage['num_public']} test samples."
    )
    return [*blocks, Table(("measure", "value"), rows, caption=caption)]


def _own_models(accuracies: Sequence[float]) -> Table:
    shown = list(enumerate(accuracies))[:100]
    return Table(("client", "accuracy"), [(str(client), _percent(value)) for client, value in shown])
