"""Plots for reports: matplotlib drawn once, in colours that the page changes between light and dark.

The SVG names the page's CSS variables instead of fixed colours, keeps its text as text, and holds no date and no random
id: the same data gives the same bytes.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.core.report import Figure

COLOURS = ("#0b63b0", "#c4511a", "#1a7f4f", "#8a3ea8", "#927000", "#4a5568")
"""In the order of use; on the page they are --c0 to --c5 and lighter at night."""
INK, RULE = "#010203", "#040506"
"""Stand-ins for the page's text colour and its line colour: draw with these, not with black and grey."""

SIZE_IN = (5.2, 3.1)
"""Width and height: narrow enough that text keeps its size on a phone."""
_MAX_POINTS = 240
_FEW_POINTS = 30  # so few are marked: a line through one point is not seen
_LEGEND_CHARS = 72  # what fits above the plot; a line's sample and gap take the room of six
_LARGE = 1e4  # from here on 20 k is easier to read than 20000


@dataclass(frozen=True)
class Line:
    """One line of a plot; NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_figure(lines: Sequence[Line], *, x_label: str, y_label: str, caption: str, alt: str) -> Figure:
    """Draws lines over a common axis. Of more than 240 points, means are drawn, and the caption says so."""
    thinned = [_thin(line) for line in lines]
    num_joined = max(number for _, number in thinned)
    if num_joined > 1:
        caption += f" Long lines are drawn as means of {num_joined} neighbours."

    def draw(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter

        for number, (line, _) in enumerate(thinned):
            dashes = ("-", "--", ":")[number // len(COLOURS) % 3]
            marker = "o" if len(line.x) <= _FEW_POINTS else None
            axes.plot(line.x, line.y, dashes, marker=marker, label=line.name)
        if all(float(x).is_integer() for line in lines for x in line.x):
            axes.xaxis.get_major_locator().set_params(integer=True)  # there is no step 1.5
        if max((abs(y) for line in lines for y in line.y if not math.isnan(y)), default=0) >= _LARGE:
            axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(lines) > 1:
            num_columns = max(1, min(len(lines), _LEGEND_CHARS // (6 + max(len(line.name) for line in lines))))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=num_columns, borderaxespad=0.2)

    return draw_figure(draw, caption=caption, alt=alt)


def draw_figure(
    draw: Callable[[Any], None], *, caption: str, alt: str, size_in: tuple[float, float] = SIZE_IN
) -> Figure:
    """Draws a figure in the style of the page.

    Args:
        draw: Draws into the matplotlib axes it is given. Colours: the default cycle, COLOURS, INK and RULE.
        caption: What is to be seen.
        alt: The same for someone who cannot see it.
        size_in: Width and height; a shape, because the page scales it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(_style(salt=caption + alt)):
        drawing = Drawing(figsize=size_in, layout="constrained")
        FigureCanvasSVG(drawing)
        axes = drawing.add_subplot()
        axes.set_prop_cycle(color=COLOURS)
        draw(axes)
        stream = io.StringIO()
        drawing.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Figure(_themed(stream.getvalue()), caption, alt)


def _style(*, salt: str) -> dict[str, Any]:
    """Settings for one drawing; the salt keeps the ids of two figures on a page apart, and always the same."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "legend.handlelength": 1.4,
        "text.color": INK,
        "axes.edgecolor": RULE,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }


def _themed(svg: str) -> str:
    """Cuts the SVG element out of matplotlib's file and hands its colours and font to the page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<g id=\"[^\"]*\"", "<g", svg)  # numbered per drawing: they would clash on a page, nothing uses them
    svg = re.sub(r"font-family: [^;\"]*;?\s*", "", svg)
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule, #d9dee3)")
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{number}, {colour})")
    return svg


def _thin(line: Line) -> tuple[Line, int]:
    """Joins neighbours into means, so that a long run does not make a page of megabytes."""
    number = -(-len(line.x) // _MAX_POINTS)
    if number <= 1:
        return line, 1

    def means(values: Sequence[float]) -> list[float]:
        parts = [values[start : start + number] for start in range(0, len(values), number)]
        return [sum(part) / len(part) for part in parts]

    return Line(line.name, means(line.x), means(line.y)), number
