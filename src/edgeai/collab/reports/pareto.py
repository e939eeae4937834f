"""Accuracy against cost: strategies as named points, and the line of those that no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.collab.reports.compare_report import Spread
from edgeai.core.report.blocks import Figure
from edgeai.core.report.plot import COLOURS, INK, draw_figure

SIZE_IN = (5.2, 4.0)
_PLOT_PT = (310.0, 230.0)  # of the plot inside its labels
_CHAR_PT, _LINE_PT = 4.0, 8.5  # of text of size 7


@dataclass(frozen=True)
class Point:
    """A strategy."""

    name: str
    cost: Spread
    quality: Spread


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in quality at the same or a lower cost, by rising cost."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost.mean, -point.quality.mean)):
        if not best or point.quality.mean > best[-1].quality.mean:
            best.append(point)
    return best


def pareto_figure(points: Sequence[Point], *, marked: Sequence[str], x_label: str, caption: str) -> Figure:
    """Draws them: means over seeds, bars from the lowest to the highest.

    Args:
        points: At least one.
        marked: Names that are set apart by colour, in this order.
        x_label: Of the cost, with its unit.
        caption: What is to be seen.
    """
    line = frontier(points)

    def draw(axes: Any) -> None:
        steps_x = [point.cost.mean for point in line]
        steps_y = [point.quality.mean for point in line]
        axes.step(steps_x, steps_y, where="post", color=COLOURS[5], linewidth=0.9, linestyle="--", zorder=1)
        for point in points:
            colour = COLOURS[marked.index(point.name) % 5] if point.name in marked else COLOURS[5]
            bars = {
                "xerr": [[point.cost.mean - point.cost.minimum], [point.cost.maximum - point.cost.mean]],
                "yerr": [[point.quality.mean - point.quality.minimum], [point.quality.maximum - point.quality.mean]],
            }
            axes.errorbar(
                point.cost.mean, point.quality.mean, fmt="o", color=colour, elinewidth=0.7, markersize=4, **bars
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel("mIoU")
        axes.margins(0.1)
        axes.autoscale_view()
        _name(axes, points)

    alt = "; ".join(f"{point.name}: {x_label} {point.cost.mean:.4g}, mIoU {point.quality.mean:.3f}" for point in points)
    return draw_figure(draw, caption=caption, alt=alt, size_in=SIZE_IN)


def _name(axes: Any, points: Sequence[Point]) -> None:
    """Writes names beside their points, where no other name or point is; a line leads to one set further off."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places = [
        ((p.cost.mean - left) / (right - left) * _PLOT_PT[0], (p.quality.mean - low) / (high - low) * _PLOT_PT[1])
        for p in points
    ]
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
    """Where a name goes, relative to its point: the nearest of some places that is free and inside."""
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
