"""Assembles the `edgeai` command. No logic: verbs live in commands/, work in the areas."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edgeai import __version__
from edgeai.commands import assets, collab, config, fedsplit, runs, spec
from edgeai.commands.doctor import doctor
from edgeai.commands.shared.app import new_app, run_app

app = new_app("Speculative decoding, edge-cloud collaboration and split federated learning in one toolkit.")
app.add_typer(spec.app, name="spec")
app.add_typer(collab.app, name="collab")
app.add_typer(fedsplit.app, name="fedsplit")
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
app.add_typer(assets.app, name="assets")
app.command(epilog="Example: edgeai doctor")(doctor)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"edgeai {__version__}")
        raise typer.Exit


@app.callback(epilog="Start here: edgeai doctor")
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Speculative decoding, edge-cloud collaboration and split federated learning in one toolkit."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; the console script's entry."""
    return run_app(app, sys.argv[1:] if argv is None else argv)
