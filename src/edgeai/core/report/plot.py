"""Plots for reports, drawn by matplotlib without a display: for a page, or as files of their own.

A page's SVG names the page's CSS variables instead of fixed colors, so that it follows light and dark; a file has the
colors of the light page on white. Text stays text, and there is no date and no random id: the same data gives the same
bytes.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.core.report.blocks import Figure

COLORS = ("#0b63b0", "#c4511a", "#1a7f4f", "#8a3ea8", "#927000", "#4a5568")
"""In the order of use; on the page they are --c0 to --c5 and lighter at night."""
INK, RULE = "#010203", "#040506"
"""Stand-ins for the page's text color and its line color: draw with these, not with black and grey."""
FILE_INK, FILE_RULE = "#1b1f24", "#d9dee3"
"""What they are on the light page, and in files."""

SIZE_IN = (5.2, 3.1)
"""Width and height: narrow enough that text keeps its size on a phone."""
_MAX_POINTS = 240
_FEW_POINTS = 30  # so few are marked: a line through one point is not seen
_LEGEND_CHARS = 72  # what fits above the plot; a line's sample and gap take the room of eight
_MAX_BAR_NAMES = 30
_MAX_NAMED_PARTS = 24
_LARGE = 1e4  # from here on 20 k is easier to read than 20000
_SPAN_PT, _SPAN_CHAR_PT = 300.0, 4.0  # width of a plot, and of a letter of a span's name
_FILE_SIZE_IN = (7.5, 4.5)
_FILE_DPI = 150


@dataclass(frozen=True)
class Line:
    """One line of a plot and the band around it; NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    """Lower edge of the band at each x; empty for a line without one."""
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Span:
    """A stretch of the x axis with a name, such as a drift segment."""

    name: str
    begin: float
    end: float


def line_figure(
    lines: Sequence[Line], *, x_label: str, y_label: str, caption: str, spans: Sequence[Span] = ()
) -> Figure:
    """Draw lines over a common axis. Of more than 240 points, means are drawn, and the caption says so.

    Args:
        lines: Drawn in this order; a band without width is left out.
        x_label: With the unit.
        y_label: With the unit.
        caption: What is to be seen.
        spans: Named along the upper edge, every second one shaded; the x axis is as long as they are.
    """
    thinned = [_thin(line) for line in lines]
    num_joined = max(number for _, number in thinned)
    if num_joined > 1:
        caption += f" Long lines are drawn as means of {num_joined} neighbors."

    def draw(axes: Any) -> None:
        _draw_lines(axes, [line for line, _ in thinned], x_label=x_label, y_label=y_label, spans=spans)

    ends = "; ".join(f"{line.name} at the end {last_value(line):.3g}" for line in lines)
    return draw_figure(draw, caption=caption, alt=f"{y_label} over {x_label}: {ends}")


def last_value(line: Line) -> float:
    """Return the last y that is a number."""
    return next((y for y in reversed(line.y) if not math.isnan(y)), math.nan)


def bars_figure(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str = "",
    unit: str = "",
    caption: str,
    alt: str,
) -> Figure:
    """Draw one horizontal bar per name, its parts side by side.

    Args:
        names: From top to bottom.
        parts: Length of a part in each bar, by the part's name.
        x_label: Meaning of the length.
        y_label: Meaning of the names.
        unit: Unit of the length; its prefix is chosen.
        caption: What is to be seen.
        alt: The same for someone who cannot see it.
    """

    def draw(axes: Any) -> None:
        import matplotlib
        from matplotlib.ticker import EngFormatter

        rainbow = matplotlib.colormaps["turbo"]
        left = [0.0] * len(names)
        for number, (part, widths) in enumerate(parts.items()):
            color = COLORS[number] if len(parts) <= len(COLORS) else rainbow(0.08 + 0.84 * number / (len(parts) - 1))
            axes.barh(range(len(names)), widths, left=left, height=0.8, color=color, label=part, linewidth=0, zorder=2)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        step = -(-len(names) // _MAX_BAR_NAMES)
        axes.set_yticks(range(0, len(names), step), names[::step])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(EngFormatter(unit))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(parts) <= _MAX_NAMED_PARTS:
            legend_above(axes)

    return draw_figure(draw, caption=caption, alt=alt, size_in=(SIZE_IN[0], 1.3 + 0.17 * len(names)))


def save_lines(paths: Sequence[Path], lines: Sequence[Line], *, title: str, x_label: str, y_label: str) -> None:
    """Draw lines with their bands into files of their own.

    Args:
        paths: Files to write; the suffix (.png, .svg) decides the format.
        lines: Drawn in this order; a band without width is left out.
        title: Says what is seen.
        x_label: With the unit.
        y_label: With the unit.
    """

    def draw(axes: Any) -> None:
        _draw_lines(axes, lines, x_label=x_label, y_label=y_label)
        axes.set_title(title, loc="left", fontsize=10, pad=24)

    for path in paths:
        partial = path.with_name(f".part-{path.name}")
        style = _style(salt=title, ink=FILE_INK, rule=FILE_RULE) | {"savefig.facecolor": "white"}
        _save(draw, partial, size_in=_FILE_SIZE_IN, style=style, dpi=_FILE_DPI, format=path.suffix[1:])
        partial.replace(path)


def _draw_lines(axes: Any, lines: Sequence[Line], *, x_label: str, y_label: str, spans: Sequence[Span] = ()) -> None:
    """Lines, their bands, spans, and a legend above the plot."""
    from matplotlib.ticker import EngFormatter

    for number, line in enumerate(lines):
        dashes = ("-", "--", ":")[number // len(COLORS) % 3]
        marker = "o" if len(line.x) <= _FEW_POINTS else None
        [drawn] = axes.plot(line.x, line.y, dashes, marker=marker, label=line.name)
        if list(line.low) != list(line.high):
            axes.fill_between(line.x, line.low, line.high, color=drawn.get_color(), alpha=0.15, linewidth=0)
    _draw_spans(axes, spans)
    if all(float(x).is_integer() for line in lines for x in line.x):
        axes.xaxis.get_major_locator().set_params(integer=True)  # there is no step 1.5
    if max((abs(y) for line in lines for y in line.y if not math.isnan(y)), default=0) >= _LARGE:
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(lines) > 1:
        legend_above(axes, height=1.07 if spans else 1.0)  # the names of spans lie below it


def _draw_spans(axes: Any, spans: Sequence[Span]) -> None:
    """A shade below every second one, and its name above it where there is room."""
    for number, span in enumerate(spans):
        if number % 2:
            axes.axvspan(span.begin, span.end, color=RULE, alpha=0.35, linewidth=0, zorder=0)
        width_pt = _SPAN_PT * (span.end - span.begin) / (spans[-1].end - spans[0].begin)
        if width_pt >= _SPAN_CHAR_PT * len(span.name):
            middle = (span.begin + span.end) / 2
            above = axes.get_xaxis_transform()
            axes.text(middle, 1.01, span.name, transform=above, ha="center", va="bottom", fontsize=7)
    if spans:
        axes.set_xlim(spans[0].begin, spans[-1].end)


def draw_figure(
    draw: Callable[[Any], None], *, caption: str, alt: str, size_in: tuple[float, float] = SIZE_IN
) -> Figure:
    """Draw a figure in the style of the page.

    Args:
        draw: Draws into the matplotlib axes it is given. Colors: the default cycle, COLORS, INK and RULE.
        caption: What is to be seen.
        alt: The same for someone who cannot see it.
        size_in: Width and height; a shape, because the page scales it.
    """
    stream = io.StringIO()
    style = _style(salt=caption + alt, ink=INK, rule=RULE)
    _save(draw, stream, size_in=size_in, style=style, format="svg", transparent=True)
    return Figure(_themed(stream.getvalue()), caption, alt)


def legend_above(axes: Any, *, height: float = 1.0) -> None:
    """Place the legend above the plot, in as many columns as fit.

    Args:
        axes: Matplotlib axes.
        height: Lower edge of the legend, in heights of the plot.
    """
    _, names = axes.get_legend_handles_labels()
    num_columns = max(1, min(len(names), _LEGEND_CHARS // (8 + max(len(name) for name in names))))
    axes.legend(loc="lower left", bbox_to_anchor=(0, height), ncols=num_columns, borderaxespad=0.2)


def log_scale(axis: Any, unit: str) -> None:
    """Make a matplotlib axis logarithmic, with few round numbers.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`, after drawing.
        unit: Unit of the values; its prefix is chosen.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(EngFormatter(unit))
    axis.set_minor_locator(NullLocator())


def _save(
    draw: Callable[[Any], None], target: Any, *, size_in: tuple[float, float], style: dict[str, Any], **options: Any
) -> None:
    """Draw into new axes and write the drawing to a file or stream."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(style):
        drawing = Drawing(figsize=size_in, layout="constrained")
        axes = drawing.add_subplot()
        axes.set_prop_cycle(color=COLORS)
        draw(axes)
        dated = {"Date": None, "Creator": None} if options["format"] == "svg" else None
        drawing.savefig(target, metadata=dated, **options)


def _style(*, salt: str, ink: str, rule: str) -> dict[str, Any]:
    """Settings for one drawing; the salt keeps the ids of two figures on a page apart, and always the same."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": rule,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "legend.handlelength": 1.4,
        "text.color": ink,
        "axes.edgecolor": rule,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }


def _themed(svg: str) -> str:
    """Cut the SVG element out of matplotlib's file and hand its colors and font to the page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<g id=\"[^\"]*\"", "<g", svg)  # numbered per drawing: they would clash on a page, nothing uses them
    svg = re.sub(r"font-family: [^;\"]*;?\s*", "", svg)
    svg = svg.replace(INK, "currentColor").replace(RULE, "var(--rule, #d9dee3)")
    for number, color in enumerate(COLORS):
        svg = svg.replace(color, f"var(--c{number}, {color})")
    return svg


def _thin(line: Line) -> tuple[Line, int]:
    """Join neighbours into means, so that a long run does not make a page of megabytes."""
    number = -(-len(line.x) // _MAX_POINTS)
    if number <= 1:
        return line, 1

    def means(values: Sequence[float]) -> list[float]:
        parts = [values[start : start + number] for start in range(0, len(values), number)]
        return [sum(part) / len(part) for part in parts]

    return Line(line.name, *(means(part) for part in (line.x, line.y, line.low, line.high))), number
