"""The report of `edgeai fedsplit advise` as blocks: recommendation, Pareto set, crossover of federated and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Block, Figure, Paragraph, Table, section
from edgeai.core.report.fields import records_table
from edgeai.core.report.plot import COLORS, INK, RULE, draw_figure, legend_above, log_scale
from edgeai.core.units import amount, duration
from edgeai.fedsplit.advise.crossover import Crossover, spread
from edgeai.fedsplit.reports.advise_report import AdviseReport, Choice, CutPlace

_MAX_ROWS = 60
_SIZE_IN = (5.2, 4.0)
_POINTS = 60


def advise_summary(document: Mapping[str, Any]) -> list[Block]:
    """Return the recommendation, the Pareto set and the limitations.

    Args:
        document: The report as plain data.
    """
    report = AdviseReport.from_json(document)
    caption = (
        "Cost of one round, fastest first. No other choice that fits is as good in time, traffic, energy and client "
        "memory."
    )
    return [
        *(Paragraph(line) for line in report.recommendation),
        *section("The Pareto set", choice_table(report.best, caption)),
        *section("Limitations", *(Paragraph(note) for note in report.notes)),
    ]


def advise_details(_: Path, document: Mapping[str, Any]) -> list[Block]:
    """Return the figures and further tables of the page.

    Args:
        _: Run directory.
        document: The report as plain data.
    """
    report = AdviseReport.from_json(document)
    ordered = sorted(report.choices, key=lambda choice: choice.seconds)
    caption = "Cost of one round, fastest first."
    if len(ordered) > _MAX_ROWS:
        caption += f" The {_MAX_ROWS} fastest of {len(ordered)}; report.json has all."
    places = [asdict(place) for place in report.cuts]
    return [
        *section("Time against traffic", pareto_figure(report), crossover_figure(report)),
        *section("Federated or split: the crossover", crossover_table(report.crossovers)),
        *section("Where the model can be cut", records_table(CutPlace, places, max_rows=len(places))),
        *section("All choices", choice_table(ordered[:_MAX_ROWS], caption)),
    ]


def choice_table(choices: Sequence[Choice], caption: str) -> Table:
    """Return the choices with the cost of one round."""
    documents = [asdict(choice) for choice in choices]
    return records_table(Choice, documents, caption=caption, max_rows=_MAX_ROWS)


def crossover_table(crossovers: Sequence[Crossover]) -> Table:
    """Return the numbers of samples and clients at which splitting and FedAvg move the same bytes."""
    counts = ("samples_two_way", "samples_one_way", "samples_by_ledger")
    documents = [
        {name: round(value) if name in counts else value for name, value in asdict(item).items()} for item in crossovers
    ]
    caption = (
        "Above n* samples per client and round, or below K* clients for the same total of samples, full-gradient split "
        "learning moves more bytes than FedAvg (Singh et al. 2019). Two-way: the client part is handed over through "
        "the server; one-way: from client to client. The ledger counts labels and codecs too."
    )
    return records_table(Crossover, documents, caption=caption, max_rows=len(documents))


def pareto_figure(report: AdviseReport) -> Figure:
    """Draw the time of a round against its traffic, one point per choice, the Pareto set filled."""
    methods = list(dict.fromkeys(choice.method for choice in report.choices))

    def draw(axes: Any) -> None:
        for number, method in enumerate(methods):
            own = [choice for choice in report.choices if choice.method == method]
            color, marker = COLORS[number % len(COLORS)], "os^Dv"[number // len(COLORS) % 5]
            for is_best in (False, True):
                part = [choice for choice in own if choice.is_best == is_best]
                axes.plot(
                    [choice.total_bytes for choice in part],
                    [choice.seconds for choice in part],
                    marker,
                    color=color,
                    markersize=5 if is_best else 4,
                    markerfacecolor=color if is_best else "none",
                    markeredgewidth=0.8,
                    linestyle="none",
                    label=method if is_best == any(choice.is_best for choice in own) else None,
                )
        log_scale(axes.xaxis, "B")
        log_scale(axes.yaxis, "s")
        axes.set_xlabel("traffic of a round, all clients, both ways")
        axes.set_ylabel("time of a round")
        legend_above(axes)

    best = "; ".join(
        f"{choice.name}: {amount(choice.total_bytes, 'B')}, {duration(choice.seconds)}" for choice in report.best
    )
    caption = "Each method at each cut. Filled: the Pareto set in time, traffic, energy and client memory."
    return draw_figure(draw, caption=caption, alt=f"The Pareto set is {best}", size_in=_SIZE_IN)


def crossover_figure(report: AdviseReport) -> Figure:
    """Draw the traffic of a client and round over its samples: FedAvg, some cuts, and counts of the ledger."""
    shown = spread(report.crossovers)
    places = [report.samples_per_client, *(item.samples_two_way for item in shown)]
    places += [item.num_samples for item in report.counted]
    low, high = max(1.0, min(places) / 4), 4 * max(places)
    samples = [low * (high / low) ** (step / (_POINTS - 1)) for step in range(_POINTS)]
    federated = 2.0 * report.weight_bytes

    def draw(axes: Any) -> None:
        axes.plot(samples, [federated] * _POINTS, color=INK, label="fedavg")
        for number, item in enumerate(shown):
            color = COLORS[number]
            axes.plot(samples, [item.ledger_bytes(n) for n in samples], color=color, label=f"cut after {item.cut}")
            formula = [item.formula_bytes(n, one_way=False) for n in samples]
            axes.plot(samples, formula, ":", color=color, linewidth=1.0)
            axes.plot([item.samples_by_ledger], [federated], "o", color=color)
        colors = {"": INK, **{item.cut: COLORS[number] for number, item in enumerate(shown)}}
        for point in report.counted:
            axes.plot([point.num_samples], [point.num_bytes], "x", color=colors[point.cut], markersize=6)
        axes.axvline(report.samples_per_client, color=RULE, linewidth=1.2, zorder=0)
        log_scale(axes.xaxis, "")
        log_scale(axes.yaxis, "B")
        axes.set_xlabel("samples per client and round")
        axes.set_ylabel("traffic per client and round")
        legend_above(axes)

    caption = (
        "To the right of its dot a cut moves more bytes than FedAvg. Lines: cost model, with labels and codec; dotted: "
        "formula of Singh et al. for one epoch without labels; vertical: samples per client of the config."
    )
    if report.counted:
        caption += " Crosses: counted by the ledger in simulated rounds."
    alt = "; ".join(f"cut after {item.cut}: from {item.samples_by_ledger:,.0f} samples on" for item in shown)
    return draw_figure(draw, caption=caption, alt=f"Split learning moves more bytes: {alt}", size_in=_SIZE_IN)
