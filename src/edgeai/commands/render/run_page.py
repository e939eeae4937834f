"""Any run as a page: what its report says, its metrics over the steps, and how it was made."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edgeai.commands.render.metrics import metric_blocks
from edgeai.commands.render.reports import view_of
from edgeai.core.config import read_tree
from edgeai.core.metrics import read_metrics
from edgeai.core.report.blocks import Block, Heading, Paragraph, Table, section
from edgeai.core.report.page import render_page
from edgeai.core.run import Run
from edgeai.core.units import duration


def run_page(run: Run) -> str:
    """Render a run directory of any area from its files alone: the same files give the same page.

    Raises:
        UsageError: Its config.yaml cannot be read.
    """
    report, verb = run.report(), str(run.info["verb"])
    view = view_of(verb)
    blocks: list[Block] = [Heading("Outcome")]
    if report:
        blocks += [*view.tables(report), *view.details(run.path, report)]
    else:
        blocks.append(Paragraph(f"This run is {run.status} and has no report.json yet."))
    if rows := read_metrics(run.path):
        blocks += section("Metrics", *metric_blocks(rows, view.logged))
    name = run.path.resolve().name  # a run's path may be "."
    return render_page(f"{verb}: {name}", [*blocks, *_origin(run)], summary=_summary(run))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name; lists are leaves."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _origin(run: Run) -> list[Block]:
    """Command, machine and config, for a repetition."""
    info = run.info
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items() if version)
    made = [
        ("command", " ".join(info["argv"])),
        ("device", f"{info['device']} ({info['device_why']}), {info['threads']} thread{'s' * (info['threads'] != 1)}"),
        ("commit", info["git"] or "not from a repository"),
        ("versions", versions),
        ("machine", info["platform"]),
        ("started", info["started"]),
        ("finished", info["finished"] or "not yet"),
    ]
    made += [("resumed", f"{item['at']}: {' '.join(item['argv'])}") for item in info.get("resumed", [])]
    settings = flat(read_tree(run.config_path)[0])
    return [
        *section("How it was made", Table(("fact", "value"), made)),
        Heading("config.yaml", level=3),
        Table(("key", "value"), [(name, _setting(value)) for name, value in settings.items()]),
    ]


def _setting(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _summary(run: Run) -> str:
    parts = [str(run.status), f"started {run.info['started'].replace('T', ' ')[:16]} UTC"]
    if run.info["finished"]:
        taken = datetime.fromisoformat(run.info["finished"]) - datetime.fromisoformat(run.info["started"])
        parts.append(f"took {duration(taken.total_seconds())}")
    return " · ".join([*parts, f"on {run.info['device']}"])
