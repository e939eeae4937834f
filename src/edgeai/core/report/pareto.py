"""Quality against cost: ways to do something as named points, and the Pareto front among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.core.report.blocks import Figure
from edgeai.core.report.plot import COLORS, INK, draw_figure, log_scale
from edgeai.core.stats import Spread, pareto_front
from edgeai.core.units import quantity

SIZE_IN = (5.2, 4.0)
_PLOT_PT = (310.0, 230.0)  # size of the plot inside its labels
_CHAR_PT, _LINE_PT = 4.0, 8.5  # width and height of text of size 7
CAPTION = "Dashed: the Pareto front; no other point is better at the same cost. Bars: lowest to highest seed."


@dataclass(frozen=True)
class Point:
    """One way, with its cost and quality over seeds."""

    name: str
    cost: Spread
    quality: Spread


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points on the Pareto front of mean cost and mean quality, by rising cost."""
    front = pareto_front([(point.cost.mean, -point.quality.mean) for point in points])
    return sorted((points[index] for index in front), key=lambda point: point.cost.mean)


def pareto_figure(
    points: Sequence[Point],
    *,
    x_label: str,
    x_unit: str,
    y_label: str,
    marked: Sequence[str] = (),
    log_x: bool = False,
) -> Figure:
    """Draw means over seeds, bars from the lowest to the highest seed, and the Pareto front.

    Args:
        points: At least one point.
        x_label: Name of the cost.
        x_unit: Unit of the cost; its prefix is chosen.
        y_label: Name of the quality, with its unit.
        marked: Names of points with a color of their own, in the order of the colors.
        log_x: Whether the cost axis is logarithmic.
    """
    line = frontier(points)

    def draw(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter(x_unit))
        steps_x = [point.cost.mean for point in line]
        steps_y = [point.quality.mean for point in line]
        axes.step(steps_x, steps_y, where="post", color=COLORS[5], linewidth=0.9, linestyle="--", zorder=1)
        for point in points:
            color = COLORS[marked.index(point.name) % 5] if point.name in marked else COLORS[5]
            bars = {
                "xerr": [[point.cost.mean - point.cost.minimum], [point.cost.maximum - point.cost.mean]],
                "yerr": [[point.quality.mean - point.quality.minimum], [point.quality.maximum - point.quality.mean]],
            }
            axes.errorbar(
                point.cost.mean, point.quality.mean, fmt="o", color=color, elinewidth=0.7, markersize=4, **bars
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(0.1)
        axes.autoscale_view()
        if log_x:
            log_scale(axes.xaxis, x_unit)
        _write_names(axes, points)

    alt = "; ".join(
        f"{point.name}: {x_label} {quantity(point.cost.mean, x_unit)}, {y_label} {point.quality.mean:.3f}"
        for point in points
    )
    return draw_figure(draw, caption=CAPTION, alt=alt, size_in=SIZE_IN)


def _write_names(axes: Any, points: Sequence[Point]) -> None:
    """Write each name beside its point, without overlaps; a line connects a name that is further away."""
    to_axes = axes.transData + axes.transAxes.inverted()
    shares = [to_axes.transform((point.cost.mean, point.quality.mean)) for point in points]
    places = [(float(x) * _PLOT_PT[0], float(y) * _PLOT_PT[1]) for x, y in shares]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda item: -item[1][1]):
        width = _CHAR_PT * len(point.name)
        dx, dy = _free_place(x, y, width, taken)
        taken.append(_box(x + dx, y + dy, width))
        far = abs(dy) > 12
        axes.annotate(
            point.name,
            (point.cost.mean, point.quality.mean),
            xytext=(dx, dy),
            textcoords="offset points",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.4, "alpha": 0.5} if far else None,
        )


def _free_place(x: float, y: float, width: float, taken: Sequence[tuple[float, ...]]) -> tuple[float, float]:
    """Return the offset of a name from its point: the nearest candidate inside the plot that overlaps nothing."""
    rings = [step * _LINE_PT for step in range(1, 14)]
    tries = [(6.0, 0.0), (-6.0 - width, 0.0), (-width / 2, _LINE_PT), (-width / 2, -_LINE_PT)]
    tries += [(dx, sign * ring) for ring in rings for sign in (1, -1) for dx in (8.0, -8.0 - width)]
    for dx, dy in tries:
        box = _box(x + dx, y + dy, width)
        inside = box[0] >= 0 and box[2] <= _PLOT_PT[0] and box[1] >= 0 and box[3] <= _PLOT_PT[1]
        if inside and not any(_meet(box, other) for other in taken):
            return dx, dy
    return tries[0]


def _box(x: float, y: float, width: float) -> tuple[float, float, float, float]:
    return x, y - _LINE_PT / 2, x + width, y + _LINE_PT / 2


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
