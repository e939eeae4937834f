"""`edgeai collab`: a small model at the edge and a large one in the cloud, played together in virtual time."""

import typer

from edgeai.collab.schema import CollabRunConfig
from edgeai.commands._app import INTERRUPTED, new_app
from edgeai.commands._collab_render import run_document, show_run, show_run_plan
from edgeai.commands._options import (
    ConfigOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OutOption,
    QuietOption,
    SetOption,
    VerboseOption,
)
from edgeai.commands._render import print_json
from edgeai.commands._run import running
from edgeai.core.config import load_config

app = new_app("Edge-cloud collaboration: a large vision model in the cloud keeps a small one at the edge sharp.")


@app.callback()
def _group() -> None:
    """Keeps `run` a command of its own while it is the only one."""


@app.command(epilog="Example: edgeai collab run -c collab/smoke")
def run(
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Play a stream through edge, link and cloud with one strategy. Ctrl-C still reports the frames until then."""
    cfg = load_config(CollabRunConfig, config, set_ or ())
    if dry_run:
        show_run_plan(cfg, as_json=as_json)
        return
    from edgeai.collab.run import run_collab  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_collab(cfg, run)
        run.finish("interrupted" if report.interrupted else "done", report.to_json())
    print_json(run_document(run.path, report)) if as_json else show_run(run.path, report)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
