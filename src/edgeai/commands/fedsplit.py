"""`edgeai fedsplit`: federated and split learning on simulated or real devices, with all costs measured."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeai.commands.render.plans import show_config, show_plan
from edgeai.commands.render.reports import show_report
from edgeai.commands.render.text import print_blocks, print_fields, print_json
from edgeai.commands.shared.app import new_app
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
from edgeai.commands.shared.progress import listening
from edgeai.commands.shared.run import refuse_with_resume, running
from edgeai.core.config import load_config
from edgeai.core.errors import UsageError
from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run, Status
from edgeai.core.units import duration

if TYPE_CHECKING:
    from edgeai.fedsplit.experiments.compare import Job
    from edgeai.fedsplit.flower.local_deployment.home import Home
    from edgeai.fedsplit.flower.local_deployment.security import Security
    from edgeai.fedsplit.sim.verify import VerifyReport

app = new_app("Federated and split learning: accuracy, traffic, time, energy and leakage.")


@app.command(epilog="Example: edgeai fedsplit sim -c fedsplit/smoke")
def sim(
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
    """Train with one method on simulated devices in virtual time.

    An interrupted run can be continued with --resume. The default config is fedsplit/default: SplitFed V2 on the digits
    data set of scikit-learn.
    """
    from edgeai.fedsplit.config.run import SimConfig  # the schemas take a third of a second: too long for --help

    refuse_with_resume(resume, config, set_, out)
    cfg = load_config(SimConfig, Run.open(resume).config_path if resume else config or "fedsplit/default", set_ or ())
    if dry_run:
        from edgeai.fedsplit.sim.plan import plan_sim  # imports torch

        show_plan(plan_sim(cfg), as_json=as_json)
        return
    from edgeai.fedsplit.experiments.simulate import simulate  # imports torch

    with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
        report = simulate(cfg, run, resume=resume is not None)
        run.finish("done", report.to_json())
    show_report("fedsplit sim", run.path, report.to_json(), as_json=as_json)


@app.command(epilog="Example: edgeai fedsplit compare -c fedsplit/compare-smoke")
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
    """Compare methods x cuts x partitions over seeds, one run per core; exit 1 if a run failed.

    Finished runs are kept: --resume continues an interrupted comparison. The default config is fedsplit/compare.
    """
    from edgeai.fedsplit.config.run import CompareConfig

    refuse_with_resume(resume, config, set_, out)
    source = Run.open(resume).config_path if resume else config or "fedsplit/compare"
    cfg = load_config(CompareConfig, source, set_ or ())
    from edgeai.fedsplit.experiments.compare import plan_compare, run_compare  # imports torch

    if dry_run:
        _show_jobs(*plan_compare(cfg, resume), as_json=as_json)
        return
    with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_compare(cfg, run)
        status: Status = "failed" if report.failures else "done"
        run.finish(status, report.to_json())
    show_report("fedsplit compare", run.path, report.to_json(), as_json=as_json)
    if report.failures:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeai fedsplit advise -c fedsplit/advise")
def advise(
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Estimate time, traffic, energy and memory of every method and cut for your model, devices and links.

    Computed from shapes; nothing is trained. The default config is fedsplit/advise.
    """
    from edgeai.fedsplit.config.advise import AdviseConfig

    cfg = load_config(AdviseConfig, config or "fedsplit/advise", set_ or ())
    if dry_run:
        show_config(cfg, as_json=as_json)
        return
    from edgeai.fedsplit.advise.choices import advise as weigh  # imports torch

    with running(cfg, out=out, device="cpu", quiet=quiet, verbose=verbose) as run:
        report = weigh(cfg)
        run.finish("done", report.to_json())
    show_report("fedsplit advise", run.path, report.to_json(), as_json=as_json)


@app.command(epilog="Example: edgeai fedsplit partition -s partition.alpha=0.1 --page partition.html")
def partition(
    config: ConfigOption = None,
    set_: SetOption = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Also write an HTML page with a picture.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the samples of each client under the data and the partition of a sim config; nothing is trained."""
    from edgeai.fedsplit.config.run import SimConfig
    from edgeai.fedsplit.partition.describe import describe_partition  # imports torch
    from edgeai.fedsplit.reports.partition_page import partition_blocks

    cfg = load_config(SimConfig, config or "fedsplit/default", set_ or ())

    report = describe_partition(cfg.data, cfg.partition, num_clients=cfg.num_clients, seed=cfg.seed)
    blocks = partition_blocks(report.to_json())
    if page is not None:
        from edgeai.core.report.page import render_page

        write_whole(page, render_page("fedsplit partition", blocks))
    print_json(report.to_json()) if as_json else print_blocks(blocks)


@app.command(epilog="Example: edgeai fedsplit up --nodes 5")
def up(
    home: Annotated[Path, typer.Argument(help="Folder for logs and state.")] = Path("runs/flower"),
    nodes: Annotated[int, typer.Option("--nodes", min=0, help="SuperNodes on this machine, one per client.")] = 5,
    superlink: Annotated[
        str | None,
        typer.Option(
            "--superlink",
            metavar="HOST:PORT",
            help="Start only SuperNodes, for a SuperLink on another machine.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address on which the SuperLink listens; anything but 127.0.0.1 needs TLS.")
    ] = "127.0.0.1",
    own_certificate: Annotated[
        bool, typer.Option("--self-signed", help="Create a TLS certificate for --host; devices need a copy of it.")
    ] = False,
    first: Annotated[int, typer.Option("--first", min=0, help="Number of the first client.")] = 0,
    certificate: Annotated[Path | None, typer.Option("--ssl-certfile", help="TLS certificate.")] = None,
    key: Annotated[Path | None, typer.Option("--ssl-keyfile", help="Private key of the TLS certificate.")] = None,
    root: Annotated[Path | None, typer.Option("--ssl-ca-certfile", help="Certificate of the authority.")] = None,
    node_key: Annotated[
        list[Path] | None, typer.Option("--node-key", help="Private key of a SuperNode; once per SuperNode.")
    ] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", help="Public key of a remote SuperNode; once per SuperNode."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start Flower's SuperLink and SuperNodes on this machine, for backend.kind=flower.

    Without TLS everything listens on 127.0.0.1 only. Anyone who can reach a SuperLink can run apps on it: restrict
    access to its port.
    """
    from edgeai.fedsplit.flower.local_deployment.security import Security
    from edgeai.fedsplit.flower.local_deployment.start_stop import start

    if superlink is not None and (nodes == 0 or own_certificate):
        what = "--self-signed" if own_certificate else "--nodes 0"
        raise UsageError(f"--superlink starts SuperNodes only, and {what} does not apply")
    security = Security(certificate, key, root)
    if own_certificate:
        security = _self_signed(home, host, security)
    security = replace(security, node_keys=tuple(node_key or ()), trusted=tuple(trust or ()))
    _show_up(start(home, nodes, superlink=superlink, host=host, security=security, first=first), as_json=as_json)


@app.command(epilog="Example: edgeai fedsplit down")
def down(
    home: Annotated[Path, typer.Argument(help="Folder given to `up`.")] = Path("runs/flower"),
    as_json: JsonOption = False,
) -> None:
    """Stop all processes that `up` started."""
    from edgeai.fedsplit.flower.local_deployment.start_stop import stop

    num_ended = stop(home)
    if as_json:
        print_json({"home": str(home), "num_ended": num_ended})
    else:
        print(f"stopped {num_ended} processes of {home}" if num_ended else f"no process of {home} is running")


@app.command(name="export-app", epilog="Example: edgeai fedsplit export-app my-app -c fedsplit/smoke")
def export_app(
    folder: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", metavar="NAME", help="Aggregate with a Flower strategy.", show_default=False),
    ] = None,
    secagg: Annotated[
        bool, typer.Option("--secagg", help="Aggregate with Flower's SecAgg+: the server sees only sums.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a run as a Flower app for `flwr run`."""
    from edgeai.fedsplit.config.run import SimConfig

    cfg = load_config(SimConfig, config or "fedsplit/default", set_ or ())
    from edgeai.fedsplit.flower.export import export

    path = export(cfg, folder, strategy, is_secure=secagg)
    print_json({"app": str(path)}) if as_json else print(f"wrote {path}: run it with `flwr run {path}`")


@app.command(epilog="Example: edgeai fedsplit verify")
def verify(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Verify eleven properties of the methods, most of them bit for bit; exit 1 if one fails."""
    from edgeai.fedsplit.sim.verify import verify as check  # imports torch

    with listening(quiet=quiet, verbose=False) as listener:
        report = check(Metrics(None, listener=listener))
    print_json(report.to_json()) if as_json else _show_checks(report)
    if report.num_failed:
        raise typer.Exit(1)


def _show_jobs(jobs: "Sequence[Job]", missing: "Sequence[Job]", *, as_json: bool) -> None:
    """Print the runs of a comparison."""
    left = [job.name for job in missing]
    if as_json:
        print_json({"runs": [job.name for job in jobs], "missing": left})
        return
    for job in jobs:
        print(f"{job.name}{'' if job.name in left else '  (done)'}")
    print(f"\n{len(missing)} of {len(jobs)} runs to do")


def _show_checks(report: "VerifyReport") -> None:
    """Print every fact and whether it holds."""
    for check in report.checks:
        mark = "ok  " if check.holds else "FAIL"
        print(f"{mark} {check.number:>2}. {check.fact}  ({duration(check.seconds)})")
        print(f"         {check.detail}")
    num_checks = len(report.checks)
    print(f"\n{num_checks - report.num_failed} of {num_checks} hold")


def _self_signed(home: Path, host: str, given: "Security") -> "Security":
    """Create a certificate for `host`, unless files of another one were given."""
    from edgeai.fedsplit.flower.local_deployment.home import check_free
    from edgeai.fedsplit.flower.local_deployment.security import Security, self_signed

    if given != Security():
        raise UsageError("--self-signed and --ssl-certfile, --ssl-keyfile or --ssl-ca-certfile exclude each other")
    check_free(home)
    return self_signed(home, host)


def _show_up(home: "Home", *, as_json: bool) -> None:
    """Print the address of a Flower deployment and the commands that use it."""
    if as_json:
        found = {"home": str(home.path), "superlink": home.address, "num_nodes": home.num_nodes, "root": home.root}
        print_json(found)
        return
    print_fields({"home": str(home.path), "SuperLink": home.address, "SuperNodes": home.num_nodes})
    if home.has_superlink and home.root is not None:
        print(f"copy {home.root} to each device and run there:")
        print(f"       edgeai fedsplit up --superlink {home.address} --ssl-ca-certfile FILE --nodes 1 --first NUMBER")
    if home.has_superlink:
        options = f"-s backend.kind=flower -s num_clients={home.num_nodes or 'N'} -s backend.home={home.path}"
        if home.root is not None:
            options += f" -s backend.stream_host={home.host}"
        print(f"train: edgeai fedsplit sim {options}")
    print(f"stop:  edgeai fedsplit down {home.path}")
