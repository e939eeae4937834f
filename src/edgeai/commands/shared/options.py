"""Options shared by the verbs."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE|NAME", help="YAML file or shipped name; see edgeai config list."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a config key; repeatable."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Run directory; by default runs/VERB-TIME.", show_default=False),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="D", help="Device: auto, cpu, cuda, cuda:1 or mps.")]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Continue the interrupted run in this directory.", show_default=False),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result and errors.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print every logged step.")]
