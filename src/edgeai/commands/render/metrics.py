"""The metrics of a run as plots, one per family of metrics."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeai.core.report.blocks import Block, Figure, Paragraph
from edgeai.core.report.fields import About
from edgeai.core.report.plot import Line, last_value, line_figure
from edgeai.core.units import quantity

_MAX_LINES = 6
"""Lines in one plot that can still be told apart."""
_TIMES = ("step", "time_s")
_RATIOS = ("", "1", "%")
"""Units of values that are written as they are drawn."""


def metric_blocks(rows: Sequence[Mapping[str, Any]], known: Mapping[str, About]) -> list[Block]:
    """Return a plot for each family of metrics, and a sentence on the constant ones.

    Args:
        rows: Rows of metrics.jsonl; a single row is not plotted.
        known: Descriptions of metrics by name; others are shown with their names. "loss_*" describes loss_0, loss_1,
            ..., whose numbers replace the * in the label.
    """
    if len(rows) == 1:
        values = {name: math.nan if value is None else value for name, value in rows[0].items() if name not in _TIMES}
        return [Paragraph(f"Logged once, at step {rows[0]['step']}: {in_words(values, known)}.")]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _TIMES))
    lines, constant = [], {}
    for name in names:
        points = [(row["step"], math.nan if row[name] is None else row[name]) for row in rows if name in row]
        if len({y for _, y in points}) == 1 and len(points) > 1:
            constant[name] = points[0][1]
        else:
            lines.append(Line(name, [x for x, _ in points], [y for _, y in points]))
    blocks: list[Block] = [_family_figure(family, members, known) for family, members in families(lines).items()]
    if constant:
        blocks.append(Paragraph(f"The same at every step: {in_words(constant, known)}."))
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


def in_words(values: Mapping[str, float], known: Mapping[str, About]) -> str:
    """Return values with the labels of their metrics, separated by commas.

    Args:
        values: Values by name of the metric.
        known: As `metric_blocks` takes it.
    """
    return ", ".join(_in_words(name, value, known) for name, value in values.items())


def description(name: str, known: Mapping[str, About]) -> About:
    """Return the description of a metric, or its name as the label.

    Args:
        name: Name of a metric or family.
        known: As `metric_blocks` takes it.
    """
    return _found(name, known) or About(name)


def _found(name: str, known: Mapping[str, About]) -> About | None:
    if name in known:
        return known[name]
    if name.startswith("val_"):
        found = _found(name.removeprefix("val_"), known)
        return replace(found, label=f"validation {found.label}") if found else None
    base, _, number = name.rpartition("_")
    found = known.get(f"{base}_*") if number.isdigit() else None
    return replace(found, label=found.label.replace("*", number)) if found else None


def _family_figure(family: str, members: Sequence[Line], known: Mapping[str, About]) -> Figure:
    name, _, part = family.partition(" ")  # "acc (2)"
    about = description(name, known)
    label = f"{about.label} {part}".rstrip()
    ends = in_words({line.name: last_value(line) for line in members}, known)
    return line_figure(
        [replace(line, name=description(line.name, known).label) for line in members],
        x_label="step",
        y_label=label if about.unit in _RATIOS else f"{label} ({about.unit})",
        caption=f"Last: {ends}.",
    )


def _in_words(name: str, value: float, known: Mapping[str, About]) -> str:
    about = description(name, known)
    plain = about.unit in _RATIOS or not math.isfinite(value)
    return f"{about.label} {_shortly(value) if plain else quantity(value, about.unit)}"


def _shortly(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
