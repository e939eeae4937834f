"""Plots for reports: lines with bands. Loads matplotlib when called, and draws without a display."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# told apart by readers who see few colours (Okabe and Ito)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "svg.hashsalt": "edgeai",  # the same numbers give the same file
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Line:
    """One line and the band around it."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    """Lower edge of the band, at each x."""
    high: tuple[float, ...]


def save_lines(paths: Sequence[Path], lines: Sequence[Line], *, title: str, x_label: str, y_label: str) -> None:
    """Draws lines with bands.

    Args:
        paths: Files to write; the suffix (.png, .svg) decides the format.
        lines: Drawn in this order; a band without width is left out.
        title: Says what is seen.
        x_label: With the unit.
        y_label: With the unit.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, line in enumerate(lines):
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            axes.plot(line.x, line.y, color=color, marker=marker, markersize=4, label=line.label)
            if line.low != line.high:
                axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(x=0.02)
        axes.legend(frameon=False)
        for path in paths:
            partial = path.with_name(f".part-{path.name}")
            figure.savefig(partial, metadata={"Date": None} if path.suffix == ".svg" else None)
            partial.replace(path)
