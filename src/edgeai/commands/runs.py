"""`edgeai runs`: what was run here, and what came of it."""

from pathlib import Path
from typing import Annotated

import typer

from edgeai.commands._app import new_app
from edgeai.commands._options import JsonOption
from edgeai.commands._render import print_fields, print_json, print_table
from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run, find_runs

app = new_app("Look at run directories.")


@app.command("list", epilog="Example: edgeai runs list runs")
def list_runs(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds run directories.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder, newest first."""
    rows = [
        {
            "path": run.path,
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
    """Show one run: how it was made, its last metrics and its report."""
    run = Run.open(path)
    rows, report = read_metrics(path), run.report()
    last = rows[-1] if rows else None
    info = {**run.info, "status": run.status}
    if as_json:
        print_json({"path": path, **info, "last_metrics": last, "report": report})
        return
    print_fields({"path": path, **{name: _short(value) for name, value in info.items() if name != "resumed"}})
    for heading, values in (("last metrics", last), ("report", report)):
        if values:
            print(f"\n{heading}")
            print_fields({name: _short(value) for name, value in values.items()})


def _short(value: object) -> object:
    """Keeps containers to one line: the JSON document has them whole."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, dict) and all(isinstance(item, str | None) for item in value.values()):
        return ", ".join(f"{name} {item or '-'}" for name, item in value.items())
    return f"({len(value)} entries, see --json)" if isinstance(value, list | dict) else value
