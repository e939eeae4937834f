"""The metrics of a run as plots, one per family of metrics."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgeai.core.report.blocks import Block, Figure, Paragraph
from edgeai.core.report.plot import Line, line_figure

_MAX_LINES = 6
"""Lines in one plot that can still be told apart."""
_TIMES = ("step", "time_s")


def metric_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return a plot for each family of metrics, and a sentence on the constant ones.

    Args:
        rows: Rows of metrics.jsonl; a single row is not plotted.
    """
    if len(rows) == 1:
        known = {name: math.nan if value is None else value for name, value in rows[0].items() if name not in _TIMES}
        told = ", ".join(f"{name} {_shortly(value)}" for name, value in known.items())
        return [Paragraph(f"Logged once, at step {rows[0]['step']}: {told}.")]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _TIMES))
    lines, constant = [], []
    for name in names:
        points = [(row["step"], math.nan if row[name] is None else row[name]) for row in rows if name in row]
        if len({y for _, y in points}) == 1 and len(points) > 1:
            constant.append(f"{name} {_shortly(points[0][1])}")
        else:
            lines.append(Line(name, [x for x, _ in points], [y for _, y in points]))
    blocks: list[Block] = [_family_figure(family, members) for family, members in families(lines).items()]
    if constant:
        blocks.append(Paragraph("The same at every step: " + ", ".join(constant) + "."))
    return blocks


def families(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Group metrics for one plot each: name, name_0, name_1, ..., name/part, and val_name.

    Validation gets its own plot where both together have more than 6 lines; larger families are split.
    """
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(re.sub(r"_\d+$", "", line.name.split("/")[0]), []).append(line)
    for family in [name for name in groups if name.startswith("val_")]:
        training = family.removeprefix("val_")
        if training in groups and len(groups[training]) + len(groups[family]) <= _MAX_LINES:
            groups[training] += groups.pop(family)
    for family, members in groups.items():
        members.sort(key=lambda line: line.name != family)  # the sum or mean before its parts
    cut: dict[str, list[Line]] = {}
    for family, members in groups.items():
        for start in range(0, len(members), _MAX_LINES):
            cut[f"{family} ({start // _MAX_LINES + 1})" if len(members) > _MAX_LINES else family] = members[
                start : start + _MAX_LINES
            ]
    return cut


def _family_figure(family: str, members: Sequence[Line]) -> Figure:
    ends = ", ".join(f"{line.name} {_shortly(_last(line))}" for line in members)
    return line_figure(
        members,
        x_label="step",
        y_label=family,
        caption=f"Last: {ends}.",
        alt=f"{family} over {len(members[0].x)} logged steps. Last values: {ends}.",
    )


def _last(line: Line) -> float:
    return next((y for y in reversed(line.y) if not math.isnan(y)), math.nan)


def _shortly(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
