"""`edgeai collab`: simulate a small vision model at the edge and a large one in the cloud, in virtual time."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from edgeai.commands.render.plans import show_config, show_config_and_plan
from edgeai.commands.render.reports import show_report
from edgeai.commands.shared.app import INTERRUPTED, new_app
from edgeai.commands.shared.options import (
    ConfigOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OutOption,
    QuietOption,
    ResumeOption,
    SetOption,
    VerboseOption,
)
from edgeai.commands.shared.run import refuse_with_resume, running
from edgeai.core.config import load_config
from edgeai.core.errors import UsageError
from edgeai.core.run import Run, Status

app = new_app("Edge-cloud vision: a large model in the cloud refines and adapts a small model at the edge.")


_WEIGHTS_KEYS = {"edge": "edge.model.weights", "cloud": "cloud.semantics.weights", "sam": "cloud.masks.checkpoint"}
"""Config key for the weights of each part that can be pretrained."""


class PartName(StrEnum):
    """Parts that can be pretrained."""

    EDGE = "edge"
    CLOUD = "cloud"
    SAM = "sam"


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
    """Simulate one strategy on a stream of frames through edge, link and cloud.

    Ctrl-C stops the run and reports the frames so far. The default config is collab/default: a generated street drive
    through day, night, fog, rain and new appearances.
    """
    from edgeai.collab.config.run import CollabRunConfig

    cfg = load_config(CollabRunConfig, config or "collab/default", set_ or ())
    if dry_run:
        show_config(cfg, as_json=as_json)
        return
    from edgeai.collab.sim.run import run_collab  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_collab(cfg, run)
        run.finish("interrupted" if report.interrupted else "done", report.to_json())
    if not (as_json and report.interrupted):  # with --json the error is the one document
        document = {**report.to_json(), "cost": asdict(report.cost)}
        show_report("collab run", run.path, document, as_json=as_json)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: edgeai collab compare -c collab/compare-smoke")
def compare(
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare strategies on the same streams over several seeds; exit 1 if a run failed.

    Finished runs are kept: --resume continues an interrupted comparison. The default config is collab/compare.
    """
    from edgeai.collab.config.run import CollabCompareConfig

    refuse_with_resume(resume, config, set_, out)
    cfg = load_config(
        CollabCompareConfig, Run.open(resume).config_path if resume else config or "collab/compare", set_ or ()
    )
    from edgeai.collab.sim.compare import plan_compare, run_compare  # imports torch

    if dry_run:
        from edgeai.core.device import choose_device

        plan = plan_compare(cfg, resume, choose_device(device).torch_device)
        show_config_and_plan(cfg, plan, as_json=as_json)
        return
    with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_compare(cfg, run)
        status: Status = "interrupted" if report.interrupted else "failed" if report.failures else "done"
        run.finish(status, report.to_json())
    if not (as_json and report.interrupted):  # with --json the error is the one document
        show_report("collab compare", run.path, report.to_json(), as_json=as_json)
    if report.interrupted and not as_json:
        print(f"some runs are missing; continue with: edgeai collab compare --resume {run.path}")
    if report.interrupted or report.failures:
        raise typer.Exit(INTERRUPTED if report.interrupted else 1)


@app.command(epilog="Example: edgeai collab pretrain edge --out runs/edge")
def pretrain(
    part: Annotated[
        PartName | None,
        typer.Argument(metavar="[edge|cloud|sam]", help="Short for -c collab/pretrain-PART.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    resume: ResumeOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train the edge net, the cloud net or sam-tiny on generated street scenes.

    An interrupted run can be continued with --resume.
    """
    from edgeai.collab.config.pretrain import PretrainConfig

    refuse_with_resume(resume, part or config, set_, out)
    if part is not None and config is not None:
        raise UsageError("PART and -c both name a config", hint="leave one of them out")
    source = Run.open(resume).config_path if resume else f"collab/pretrain-{part.value}" if part else config
    cfg = load_config(PretrainConfig, source, set_ or ())
    if dry_run:
        show_config(cfg, as_json=as_json)
        return
    from edgeai.collab.pretrain.train import run_pretrain  # imports torch

    with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_pretrain(cfg, run, resume=resume is not None)
        run.finish("done", report.to_json())
    show_report("collab pretrain", run.path, report.to_json(), as_json=as_json)
    if not as_json:
        print(f"run it:  edgeai collab run -c collab/default -s {_WEIGHTS_KEYS[report.part]}={run.path}")
