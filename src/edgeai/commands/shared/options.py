"""The options that every verb shares, each defined once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE|NAME", help="A YAML file or a shipped name; see edgeai config list."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override one key of the config; may be repeated."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The run directory; by default runs/VERB-TIME.", show_default=False),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:1 or mps.")]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run directory.", show_default=False),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the result and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print every logged step as well.")]
