"""The page of `edgeai fedsplit advise`: what to take, the Pareto picture, and from where on splitting costs more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.plot import COLOURS, INK, RULE, draw_figure
from edgeai.fedsplit.advise.crossover import Crossover, spread
from edgeai.fedsplit.advise.recommendation import in_bytes, in_joules, in_seconds
from edgeai.fedsplit.reports.advise_report import AdviseReport, Choice

_MAX_ROWS = 60
_SIZE_IN = (5.2, 4.0)
_POINTS = 60


def advise_blocks(report: AdviseReport) -> list[Block]:
    """All of the report.

    Args:
        report: From `advise`, or read back from report.json.
    """
    blocks: list[Block] = [Paragraph(line) for line in report.recommendation]
    blocks += [
        Heading("The Pareto set"),
        choice_table(
            report.best,
            "Of one round, fastest first. Nothing else that fits is as good in time, bytes, energy and client memory.",
        ),
        Heading("Time against traffic"),
        pareto_figure(report),
        crossover_figure(report),
        Heading("Federated or split: the crossover"),
        crossover_table(report.crossovers),
        Heading("Where the model can be cut"),
        cut_table(report),
    ]
    others = sorted(report.choices, key=lambda choice: choice.seconds)
    shown = others[:_MAX_ROWS]
    caption = "Of one round, fastest first."
    if len(shown) < len(others):
        caption += f" The {_MAX_ROWS} fastest of {len(others)}; report.json has all."
    blocks += [Heading("All choices"), choice_table(shown, caption), Heading("What the numbers leave out")]
    return blocks + [Paragraph(note) for note in report.notes]


def choice_table(choices: Sequence[Choice], caption: str) -> Table:
    """Choices with what a round of them costs."""
    columns = ("method", "cut after", "time", "sent", "received", "all traffic", "energy", "client memory")
    rows = [
        (
            choice.method,
            choice.cut or None,
            Number(choice.seconds, in_seconds(choice.seconds)),
            _size(choice.client_up_bytes),
            _size(choice.client_down_bytes),
            _size(choice.total_bytes),
            Number(choice.total_j, in_joules(choice.total_j)),
            _size(choice.client_memory_bytes),
            _size(choice.server_memory_bytes),
            choice.fits,
            choice.labels_leave,
            choice.averages_clients,
        )
        for choice in choices
    ]
    best = dict.fromkeys(("time", "all traffic", "energy", "client memory"), "min")
    return Table(
        (*columns, "server memory", "fits", "labels leave", "one model"),
        rows,
        caption=f"{caption} Sent and received are means of a client.",
        best=best,  # type: ignore[arg-type]
    )


def cut_table(report: AdviseReport) -> Table:
    """Every place to cut."""
    rows = [
        (
            place.cut,
            place.client_params,
            Number(place.client_flops_frac, f"{100 * place.client_flops_frac:.1f} %"),
            " x ".join(str(size) for size in place.cut_shape),
            _size(place.cut_bytes),
            _size(place.client_saved_bytes),
        )
        for place in report.cuts
    ]
    columns = ("cut after", "client parameters", "client FLOPs", "shape", "bytes a sample", "kept for backward")
    return Table(columns, rows, caption="Shape and bytes of one sample at the cut, as float32.")


def crossover_table(crossovers: Sequence[Crossover]) -> Table:
    """Samples and clients at which splitting and FedAvg move the same."""
    columns = ("cut after", "share of parameters", "q", "n* two-way", "n* one-way", "K* two-way", "n* by our ledger")
    rows = [
        (
            item.cut,
            Number(item.client_frac, f"{100 * item.client_frac:.2f} %"),
            item.cut_values,
            round(item.samples_two_way),
            round(item.samples_one_way),
            Number(item.clients_two_way, f"{item.clients_two_way:.3g}"),
            round(item.samples_by_ledger),
        )
        for item in crossovers
    ]
    caption = (
        "Above n* samples a client and round, or below K* clients for all samples there are, full-gradient split "
        "learning moves more bytes than FedAvg (Singh et al. 2019). Two-way: the client part goes by way of the "
        "server; one-way: from client to client. Our ledger counts labels and codecs too."
    )
    return Table(columns, rows, caption=caption)


def pareto_figure(report: AdviseReport) -> Figure:
    """Seconds against bytes of a round, every choice a point, the Pareto set filled."""
    methods = list(dict.fromkeys(choice.method for choice in report.choices))

    def draw(axes: Any) -> None:
        for number, method in enumerate(methods):
            own = [choice for choice in report.choices if choice.method == method]
            colour, marker = COLOURS[number % len(COLOURS)], "os^Dv"[number // len(COLOURS) % 5]
            for is_best in (False, True):
                part = [choice for choice in own if choice.is_best == is_best]
                axes.plot(
                    [choice.total_bytes for choice in part],
                    [choice.seconds for choice in part],
                    marker,
                    color=colour,
                    markersize=5 if is_best else 4,
                    markerfacecolor=colour if is_best else "none",
                    markeredgewidth=0.8,
                    linestyle="none",
                    label=method if is_best == any(choice.is_best for choice in own) else None,
                )
        _scale(axes.xaxis, "B")
        _scale(axes.yaxis, "s")
        axes.set_xlabel("traffic of a round, all clients, both ways")
        axes.set_ylabel("time of a round")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=7, borderaxespad=0.2)

    best = "; ".join(
        f"{choice.name}: {in_bytes(choice.total_bytes)}, {in_seconds(choice.seconds)}" for choice in report.best
    )
    caption = "Each method at each cut. Filled: nothing else is as good in time, bytes, energy and client memory."
    return draw_figure(draw, caption=caption, alt=f"The Pareto set is {best}", size_in=_SIZE_IN)


def crossover_figure(report: AdviseReport) -> Figure:
    """Bytes of a client and round over its samples: FedAvg, splitting at some cuts, and what the ledger counted."""
    shown = spread(report.crossovers)
    places = [report.samples_per_client, *(item.samples_two_way for item in shown)]
    places += [item.num_samples for item in report.counted]
    low, high = max(1.0, min(places) / 4), 4 * max(places)
    samples = [low * (high / low) ** (step / (_POINTS - 1)) for step in range(_POINTS)]
    federated = 2.0 * report.weight_bytes

    def draw(axes: Any) -> None:
        axes.plot(samples, [federated] * _POINTS, color=INK, label="fedavg")
        for number, item in enumerate(shown):
            colour = COLOURS[number]
            axes.plot(samples, [item.ledger_bytes(n) for n in samples], color=colour, label=f"cut after {item.cut}")
            formula = [item.formula_bytes(n, one_way=False) for n in samples]
            axes.plot(samples, formula, ":", color=colour, linewidth=1.0)
            axes.plot([item.samples_by_ledger], [federated], "o", color=colour)
        colours = {"": INK, **{item.cut: COLOURS[number] for number, item in enumerate(shown)}}
        for point in report.counted:
            axes.plot([point.num_samples], [point.num_bytes], "x", color=colours[point.cut], markersize=6)
        axes.axvline(report.samples_per_client, color=RULE, linewidth=1.2, zorder=0)
        _scale(axes.xaxis, "")
        _scale(axes.yaxis, "B")
        axes.set_xlabel("samples of a client and round")
        axes.set_ylabel("traffic of a client and round")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=7, borderaxespad=0.2)

    caption = (
        "Right of its dot a cut moves more bytes than FedAvg. Lines: our cost table, with labels and codec; dotted: "
        "the formula of Singh et al. for one epoch without labels; upright: the samples there are."
    )
    if report.counted:
        caption += " Crosses: counted by the ledger in rounds that were played."
    alt = "; ".join(f"cut after {item.cut}: from {item.samples_by_ledger:,.0f} samples on" for item in shown)
    return draw_figure(draw, caption=caption, alt=f"Split learning moves more bytes: {alt}", size_in=_SIZE_IN)


def _scale(axis: Any, unit: str) -> None:
    """A logarithmic axis with few round numbers."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    steps = (1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(EngFormatter(unit))
    axis.set_minor_locator(NullLocator())


def _size(num_bytes: float) -> Cell:
    return Number(num_bytes, in_bytes(num_bytes))
