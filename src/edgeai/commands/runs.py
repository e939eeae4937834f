"""`edgeai runs`: list runs and show, compare and report their results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeai.commands.render.reports import view_of
from edgeai.commands.render.run_page import flat, run_page
from edgeai.commands.render.text import print_blocks, print_fields, print_json, print_table
from edgeai.commands.shared.app import new_app
from edgeai.commands.shared.options import JsonOption
from edgeai.core.config import read_tree
from edgeai.core.errors import UsageError
from edgeai.core.files import write_whole
from edgeai.core.metrics import read_metrics
from edgeai.core.report.blocks import Cell
from edgeai.core.report.fields import alone, cell_of, leaves
from edgeai.core.run import Run, find_runs

app = new_app("List runs and show, compare and report their results.")


@app.command("list", epilog="Example: edgeai runs list runs")
def list_runs(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds run directories.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder, newest first."""
    rows = [
        {
            "path": str(run.path),
            "verb": run.info["verb"],
            "status": run.status,
            "started": run.info["started"],
            "device": run.device,
        }
        for run in find_runs(root)
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        print(f"no runs in {root}")


@app.command(epilog="Example: edgeai runs show runs/spec-train-20260101-120000")
def show(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")], as_json: JsonOption = False
) -> None:
    """Show one run: command, machine, last metrics and results."""
    run = Run.open(path)
    rows, report = read_metrics(path), run.report()
    last = rows[-1] if rows else None
    info = {**run.info, "status": run.status}
    if as_json:
        print_json({"path": path, **info, "last_metrics": last, "report": report})
        return
    print_fields(
        {
            "path": str(path),
            **{name: _short(value) for name, value in info.items() if name not in ("resumed", "process_start")},
        }
    )
    if last:
        print("\nlast metrics")
        print_fields({name: cell_of(value) for name, value in last.items() if name != "time_s"})
    if report:
        print("\nreport")
        print_blocks(view_of(str(run.info["verb"])).tables(report))


@app.command(epilog="Example: edgeai runs report runs/spec-train-20260101-120000")
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Path of the page; by default RUN/report.html.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a self-contained HTML page of a run: results, plots of its metrics, command and config."""
    run = Run.open(path)
    page = run_page(run)
    target = out or path / "report.html"
    try:
        write_whole(target, page)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", hint="choose another --out") from None
    print_json({"run": path, "page": target, "page_bytes": len(page.encode())}) if as_json else print(target)


@app.command(epilog="Example: edgeai runs compare runs/one runs/two")
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run directories, two or more.")],
    as_json: JsonOption = False,
) -> None:
    """Compare runs side by side: their results, and the config keys in which they differ."""
    if len(paths) < 2:
        raise UsageError("a comparison needs two runs or more", hint=f"show it: edgeai runs show {paths[0]}")
    runs = [Run.open(path) for path in paths]
    about = {name: [str(run.info[name]) for run in runs] for name in ("verb", "started", "device", "git")}
    about["status"] = [run.status for run in runs]
    outcome = side_by_side([_scalars(run.report() or {}) for run in runs])
    settings = side_by_side([flat(read_tree(run.config_path)[0]) for run in runs])
    settings = {key: values for key, values in settings.items() if any(value != values[0] for value in values)}
    if as_json:
        print_json({"runs": paths, "about": about, "report": outcome, "config": settings})
        return
    tables = {"": _cells(about), "report": _described(runs), "config, where it differs": _cells(settings)}
    for heading, rows in tables.items():
        if heading:
            print(f"\n{heading}" if rows else f"\n{heading}: nothing")
        if rows:
            print_table(["", *(str(path) for path in paths)], rows)


def _cells(values: Mapping[str, Sequence[Any]]) -> list[list[Cell]]:
    return [[name, *(_short(value) for value in row)] for name, row in values.items()]


def _described(runs: Sequence[Run]) -> list[list[Cell]]:
    """One row per value of the reports, under its label."""
    found = [leaves(view_of(str(run.info["verb"])).record, run.report() or {}) for run in runs]
    rows = side_by_side(found)
    return [
        [next(leaf.about.label for leaf in row if leaf), *(alone(leaf.cell) if leaf else None for leaf in row)]
        for row in rows.values()
    ]


def side_by_side(trees: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return every key with its value in each mapping, None where it has none."""
    return {key: [tree.get(key) for tree in trees] for key in dict.fromkeys(key for tree in trees for key in tree)}


def _scalars(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and words of a report, without lists and definitions."""
    return {
        name: value
        for name, value in flat(report).items()
        if not isinstance(value, list | dict) and not name.endswith("_definition")
    }


def _short(value: Any) -> Cell:
    """Return a value on one line; the JSON document has all of it."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, dict) and all(isinstance(item, str | None) for item in value.values()):
        return ", ".join(f"{name} {item or '-'}" for name, item in value.items())
    if isinstance(value, list | dict):
        return f"({len(value)} entries, see --json)"
    return None if value is None else str(value)
