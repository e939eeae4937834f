"""The report of `edgeai fedsplit partition` as blocks, and the picture of a partition for other pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeai.core.report.blocks import Block, Cell, Figure, Number, Paragraph, Table
from edgeai.core.report.plot import draw_figure

Part = Mapping[str, Any]
"""A PartitionReport, or a piece of it, as plain values."""

_MAX_BARS = 60
_MAX_ROWS = 100
_MAX_CLASS_COLUMNS = 12
_BAR_IN, _MARGIN_IN = 0.17, 1.0
_WIDTH_IN = 5.2


def partition_blocks(report: Part) -> list[Block]:
    """Return a sentence, a picture and a table.

    Args:
        report: The report as plain data.
    """
    return [Paragraph(_in_words(report)), partition_figure(report), _table(report)]


def partition_figure(report: Part) -> Figure:
    """Draw one bar per client: its samples, colored by class."""
    counts = [part["class_counts"] for part in report["summary"]["clients"]]
    return histogram_figure(counts, classes=report["classes"], kind=report["kind"], alt=_in_words(report))


def histogram_figure(counts: Sequence[Sequence[int]], *, classes: Sequence[str], kind: str, alt: str) -> Figure:
    """Draw one bar per client from the counts alone.

    Args:
        counts: Samples of each client by class.
        classes: Names of the classes.
        kind: Kind of the partition.
        alt: Text for readers who cannot see the picture.
    """
    shown = counts[:_MAX_BARS]
    more = f" The first {len(shown)} of {len(counts)}." if len(counts) > len(shown) else ""

    def draw(axes: Any) -> None:
        import matplotlib

        colors = matplotlib.colormaps["turbo"]
        left = [0] * len(shown)
        for label, name in enumerate(classes):
            widths = [count[label] for count in shown]
            color = colors(0.08 + 0.84 * label / max(1, len(classes) - 1))
            axes.barh(range(len(shown)), widths, left=left, height=0.8, color=color, label=name, linewidth=0)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("samples")
        axes.set_ylabel("client")
        if len(classes) <= 2 * _MAX_CLASS_COLUMNS:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="class", handlelength=0.9)

    return draw_figure(
        draw,
        caption=f"Training samples of each client, by class ({kind}).{more}",
        alt=alt,
        size_in=(_WIDTH_IN, max(2.4, _MARGIN_IN + _BAR_IN * len(shown))),
    )


def _in_words(report: Part) -> str:
    summary = report["summary"]
    sizes = [part["num_samples"] for part in summary["clients"]]
    text = f"{report['dataset']}: {summary['num_samples']:,} training samples for {report['num_clients']} clients"
    if report["kind"] == "vertical":
        return f"{text}, each with other inputs of all samples."
    held = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    unused = f" {summary['num_unused']:,} samples belong to no client." if summary["num_unused"] else ""
    return (
        f"{text}, {held} each (Gini coefficient {summary['size_gini']:.2f}). Mean label distance "
        f"{summary['mean_label_distance']:.2f}: the share of a client's samples that would have to change class to "
        f"match the class distribution of all samples.{unused}"
    )


def _table(report: Part) -> Table:
    summary, classes = report["summary"], report["classes"]
    clients = summary["clients"][:_MAX_ROWS]
    with_counts = len(classes) <= _MAX_CLASS_COLUMNS
    extra = [key for key in ("groups", "inputs") if any(part[key] for part in clients)]
    columns = ["client", "samples", *(classes if with_counts else ["classes"]), "label distance", *extra]
    rows: list[Sequence[Cell]] = []
    for part in clients:
        counts: list[Cell] = part["class_counts"] if with_counts else [sum(1 for num in part["class_counts"] if num)]
        distance = Number(part["label_distance"], f"{part['label_distance']:.2f}")
        names = [", ".join(part[key]) for key in extra]
        rows.append([str(part["client"]), part["num_samples"], *counts, distance, *names])
    caption = "Samples by class. Label distance: total variation to the class distribution of all samples, 0 to 1."
    if len(summary["clients"]) > len(clients):
        caption += f" The first {len(clients)} of {len(summary['clients'])} clients."
    return Table(columns, rows, caption=caption)
