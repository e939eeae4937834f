"""Any run as a page: what its report says, its metrics over the steps, and how it was made."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from edgeai.commands.render.text import amount, seconds
from edgeai.core.config import read_tree
from edgeai.core.metrics import read_metrics
from edgeai.core.report.blocks import Block, Cell, Figure, Heading, Number, Paragraph, Table
from edgeai.core.report.page import render_page
from edgeai.core.report.plot import Line, line_figure
from edgeai.core.run import Run

_MAX_LINES = 6
"""Lines in one plot that can still be told apart."""
_MAX_ROWS = 50
_MAX_ITEMS = 8
_DEFINITION = "_definition"
_TIMES = ("step", "time_s")


def run_page(run: Run) -> str:
    """Renders a run directory of any area, from what it holds alone: the same files give the same page.

    Raises:
        UsageError: Its config.yaml cannot be read.
    """
    report = run.report()
    blocks: list[Block] = [Heading("Outcome")]
    blocks += _found(run, report) if report else [Paragraph(f"This run is {run.status} and has no report.json yet.")]
    if rows := read_metrics(run.path):
        blocks += [Heading("Metrics"), *metric_blocks(rows)]
    name = run.path.resolve().name  # a run's path may be "."
    return render_page(f"{run.info['verb']}: {name}", [*blocks, *_origin(run)], summary=_summary(run))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted name; lists are leaves."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def readable(name: str, value: Any) -> Cell:
    """Writes a value in the unit that its name ends with; a number keeps its value beside the text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        for suffix, unit in (("_bytes", "B"), ("_bps", "bit/s"), ("_hz", "Hz")):
            if name.endswith(suffix):
                return Number(value, amount(value, unit))
        if name.endswith("_s") and not name.endswith("_per_s"):
            return Number(value, f"{value * 1e3:.3g} ms" if 0 < abs(value) < 1 else seconds(value))
        return Number(value, f"{value:.1%}") if name.endswith("_frac") else value
    if isinstance(value, list | tuple):
        return _listed(name, value)
    return str(value)


def _listed(name: str, values: Sequence[Any]) -> str:
    if any(isinstance(item, list | dict) for item in values) or len(values) > _MAX_ITEMS:
        return f"{len(values)} entries, see report.json"
    return ", ".join(_words(readable(name, item)) for item in values) or "none"


def _words(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _found(run: Run, report: Mapping[str, Any]) -> list[Block]:
    """A verb that knows how to show its report does; any other report is listed field by field."""
    if run.info["verb"] == "collab run":
        from edgeai.collab.reports.run_page import run_blocks  # imports numpy

        return run_blocks(run.path, report)
    if run.info["verb"] == "collab compare":
        from edgeai.collab.reports.compare_page import compare_blocks  # imports numpy

        return compare_blocks(run.path, report)
    if run.info["verb"] == "fedsplit sim":
        from edgeai.fedsplit.reports.run_page import sim_blocks  # imports torch

        return sim_blocks(run.path, report)
    if run.info["verb"] == "fedsplit compare":
        from edgeai.fedsplit.reports import compare_page  # imports torch

        return compare_page.compare_blocks(report)
    if run.info["verb"] == "fedsplit advise":
        from edgeai.fedsplit.reports.advise_page import advise_blocks  # imports torch
        from edgeai.fedsplit.reports.advise_report import AdviseReport

        return advise_blocks(AdviseReport.from_json(report))
    return _outcome(report)


def _outcome(report: Mapping[str, Any]) -> list[Block]:
    """The fields of a report; lists of records become tables of their own."""
    leaves = flat(report)
    records = {name: value for name, value in leaves.items() if _are_records(value)}
    meanings = {name.removesuffix(_DEFINITION): text for name, text in leaves.items() if name.endswith(_DEFINITION)}
    fields = []
    for name, value in leaves.items():
        if name not in records and not name.endswith(_DEFINITION):
            defined = _defined(name, meanings)
            fields.append(
                (name, readable(name, value), str(meanings.pop(defined, "")))
            )  # once, at the first of several
    fields += [(name, None, str(text)) for name, text in meanings.items()]
    has_meanings = any(meaning for *_, meaning in fields)
    columns = ("field", "value", "definition")[: 3 if has_meanings else 2]
    blocks: list[Block] = [Table(columns, [field[: len(columns)] for field in fields])]
    for name, items in records.items():
        blocks += [Heading(name, level=3), _record_table(items)]
    return blocks


def _defined(name: str, meanings: Mapping[str, Any]) -> str:
    """Which definition is about this field: of the same name, of what it lies within, or of what its name ends with."""
    parts = name.split(".")
    outer = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((known for known in meanings if any(at == known or at.endswith(f"_{known}") for at in outer)), "")


def _are_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _record_table(items: Sequence[Mapping[str, Any]]) -> Table:
    rows = [flat(item) for item in items]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[readable(name, row.get(name)) for name in columns] for row in rows[:_MAX_ROWS]]
    rest = len(rows) - len(shown)
    return Table(columns, shown, caption=f"{rest} more in report.json" if rest else "")


def metric_blocks(rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Returns a plot for each family of metrics, and a line that names those that never changed.

    Args:
        rows: Of metrics.jsonl; a single one is not plotted.
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
    """Groups metrics that belong in one plot: name, name_0, name_1 ..., name/part, and val_name beside name.

    Validation stays apart where both together are more than 6 lines; a larger family is cut into several plots.
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


def _origin(run: Run) -> list[Block]:
    """How to do it again."""
    info = run.info
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items() if version)
    made = [
        ("command", " ".join(info["argv"])),
        ("device", f"{info['device']} ({info['device_why']}), {info['threads']} threads"),
        ("commit", info["git"] or "not from a repository"),
        ("versions", versions),
        ("machine", info["platform"]),
        ("started", info["started"]),
        ("finished", info["finished"] or "not yet"),
    ]
    made += [("resumed", f"{item['at']}: {' '.join(item['argv'])}") for item in info.get("resumed", [])]
    settings = flat(read_tree(run.config_path)[0])
    return [
        Heading("How it was made"),
        Table(("", "value"), made),
        Heading("config.yaml", level=3),
        Table(("key", "value"), [(name, _setting(value)) for name, value in settings.items()]),
    ]


def _setting(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _summary(run: Run) -> str:
    parts = [str(run.status), f"started {run.info['started'].replace('T', ' ')[:16]} UTC"]
    if run.info["finished"]:
        taken = datetime.fromisoformat(run.info["finished"]) - datetime.fromisoformat(run.info["started"])
        parts.append(f"took {seconds(taken.total_seconds())}")
    return " · ".join([*parts, f"on {run.info['device']}"])
