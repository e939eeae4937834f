"""`edgeai spec`: train draft heads, generate text, measure speed, and export heads."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeai.commands.render.plans import show_config_and_plan, show_plan
from edgeai.commands.render.reports import show_report, view_of
from edgeai.commands.render.spec import answer_footer, bench_verdict, show_export, show_export_plan, show_train_plan
from edgeai.commands.render.text import print_blocks, print_json
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
from edgeai.commands.shared.torchrun import train_everywhere
from edgeai.commands.spec_serve import chat, load, serve
from edgeai.core.config import load_config
from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.config.diagnose import DiagnoseConfig
from edgeai.spec.config.export import ExportConfig, ImportConfig
from edgeai.spec.config.generate import GenerateConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.prompts import Prompt, load_prompts
from edgeai.spec.decoding.generation import GeneratePlan
from edgeai.spec.evaluation.diagnose_report import DiagnosePlan

if TYPE_CHECKING:
    from edgeai.spec.training.train_report import TrainPlan

HeadOutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder to create for the head.", show_default=False)
]

app = new_app("Speculative decoding: faster text from a language model, with unchanged output.")


@app.command(epilog="Example: edgeai spec train -c spec/smollm2-quick")
def train(
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
    """Train an EAGLE-3 draft head for a frozen target model.

    An interrupted run can be continued with --resume.

    Several GPUs or processes: torchrun --nproc-per-node 2 -m edgeai spec train ...
    """
    refuse_with_resume(resume, config, set_, out)
    cfg = load_config(TrainConfig, Run.open(resume).config_path if resume else config, set_ or ())
    if dry_run:
        show_train_plan(_plan_train(cfg, device, quiet), as_json=as_json)
        return
    outcome = train_everywhere(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose)
    if outcome:
        path, report = outcome
        show_report("spec train", path, report.to_json(), as_json=as_json)
        if not as_json:
            print(f"measure it:  edgeai spec bench -s draft.path={path}")


@app.command(epilog='Example: edgeai spec generate -s draft.kind=ngram "Why is the sky blue?"')
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts; - reads one prompt from stdin.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="Prompt file; its first user turns are used."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Answer prompts, with speculative decoding where it is faster.

    The output is that of plain decoding. In bfloat16 and float16 on torch, two nearly tied tokens may be exchanged.
    """
    cfg = load_config(GenerateConfig, config, set_ or ())
    given = _given_prompts(prompts or [], file, quiet=quiet)
    if dry_run:
        show_config_and_plan(cfg, GeneratePlan(len(given), len(given) * cfg.max_tokens), as_json=as_json)
        return
    from edgeai.spec.decoding.generate import run_generate  # imports torch

    streams = not as_json and sys.stdout.isatty()
    texts = [prompt.turns[0] if isinstance(prompt, Prompt) else prompt for prompt in given]
    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose, notes_only=streams) as run:
        report = run_generate(cfg, run, given, on_text=_Stream(texts) if streams else None)
        run.finish("done", report.to_json())
    if as_json:
        print_json({"run": run.path, **report.to_json()})
    elif not streams:
        print("\n\n".join(_with_heading(texts, number, answer.text) for number, answer in enumerate(report.answers)))
    if not (as_json or quiet):
        print(("\n" if streams else "") + answer_footer(report), file=sys.stderr)


@app.command(epilog="Example: edgeai spec bench -s draft.kind=ngram")
def bench(
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="FILE", help="Short for -s prompts=FILE.", show_default=False)
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            metavar="NAMES",
            help="Short for -s peers=NAMES: also measure transformers, llamacpp, or both separated by a comma.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Measure plain and speculative decoding and compare the outputs; exit 1 if any differ or a peer fails."""
    short = [f"prompts={json.dumps(prompts)}"] if prompts is not None else []
    short += [f"peers={json.dumps(peers)}"] if peers is not None else []
    cfg = load_config(BenchConfig, config, [*short, *(set_ or ())])
    from edgeai.spec.evaluation.bench.bench import plan_bench, run_bench  # imports torch

    if dry_run:
        show_config_and_plan(cfg, plan_bench(cfg), as_json=as_json)
        return
    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_bench(cfg, run)
        is_ok = report.is_ok
        run.finish("done" if is_ok else "failed", report.to_json())
    show_report("spec bench", run.path, report.to_json(), as_json=as_json)
    if not as_json:
        print(f"\n{bench_verdict(report)}")
    if not is_ok:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeai spec diagnose -s draft.path=runs/smollm2")
def diagnose(
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="FILE", help="Short for -s prompts=FILE.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare tree acceptance with greedy-chain acceptance, and report the calibration of a draft head."""
    short = [f"prompts={json.dumps(prompts)}"] if prompts is not None else []
    cfg = load_config(DiagnoseConfig, config, [*short, *(set_ or ())])
    if dry_run:
        show_config_and_plan(cfg, DiagnosePlan(cfg.max_prompts * cfg.max_tokens), as_json=as_json)
        return
    from edgeai.spec.evaluation.diagnose import run_diagnose  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_diagnose(cfg, run)
        run.finish("done", report.to_json())
    show_report("spec diagnose", run.path, report.to_json(), as_json=as_json)


@app.command(epilog="Example: edgeai spec compare -c spec/compare --out runs/compare")
def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Runs of spec train, or checkpoint folders: short for -s runs=[...].",
            show_default=False,
        ),
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
    """Train head variants over several seeds and compare all heads on the same texts; exit 1 if a training failed.

    --resume continues an interrupted comparison; finished trainings are not repeated. RUNs whose configs differ only
    in the seed are one variant; without -c their target is measured.
    """
    refuse_with_resume(resume, runs, config, set_, out, leave_out="RUN, -c, -s and --out")
    source = Run.open(resume).config_path if resume else config
    cfg = load_config(CompareConfig, source, [*_given_runs(runs or (), config), *(set_ or ())])
    from edgeai.spec.evaluation.compare.compare import plan_compare, run_compare  # imports torch

    if dry_run:
        show_plan(plan_compare(cfg, resume or out or Path("runs/spec-compare")), as_json=as_json)
        return
    with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_compare(cfg, run)
        run.finish("failed" if report.failures else "done", report.to_json())
    show_report("spec compare", run.path, report.to_json(), as_json=as_json)
    if report.failures:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeai spec export smollm2-135m-instruct --format sglang --out heads/sglang")
def export(
    head: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|HEAD",
            help="A run of spec train, a checkpoint folder, or the name of a shipped head: short for -s head=...",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="sglang, vllm, speculators or eagle: short for -s format=...", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: HeadOutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Export a draft head for SGLang, vLLM, speculators or EAGLE, and verify that the exported head drafts the same.

    Exit 1 if the drafts differ; the files are then kept with the suffix .partial.
    """
    example = "for example: edgeai spec export RUN --format sglang --out heads/sglang"
    cfg = load_config(ExportConfig, config, _given(config, set_, example, head=head, format=format))
    from edgeai.core.device import choose_device  # imports torch
    from edgeai.spec.formats.export_head import export_head, plan_export

    on = choose_device(device).torch_device
    with listening(quiet=quiet, verbose=verbose) as listener:
        metrics = Metrics(None, listener=listener)
        if dry_run:
            plan = plan_export(cfg, device=on, metrics=metrics)
        else:
            report = export_head(cfg, _wanted(out), device=on, metrics=metrics)
    if dry_run:
        print_json(plan.to_json()) if as_json else show_export_plan(plan)
        return
    print_json(report.to_json()) if as_json else show_export(report)
    if not report.agreement.is_ok:
        raise typer.Exit(1)


@app.command("import", epilog="Example: edgeai spec import heads/published --out heads/mine -s target.model=org/model")
def import_(
    head: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="Folder of a head as SGLang, vLLM, speculators or EAGLE write it: short for -s head=...",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: HeadOutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Import a published EAGLE-3 or GTO draft head for its target model.

    Unknown tensors and heads of another target are errors. -s draft.path=DIR reads the same folders directly.
    """
    example = "for example: edgeai spec import DIR --out heads/mine -s target.model=org/model"
    cfg = load_config(ImportConfig, config, _given(config, set_, example, head=head))
    from edgeai.core.device import choose_device  # imports torch
    from edgeai.spec.formats.import_head import import_head

    with listening(quiet=quiet, verbose=verbose) as listener:
        report = import_head(
            cfg,
            None if dry_run else _wanted(out),
            device=choose_device(device).torch_device,
            metrics=Metrics(None, listener=listener),
        )
    if as_json:
        print_json(report.to_json())
        return
    print_blocks(view_of("spec import").tables(report.to_json()))
    if report.path is None:
        print("\nnothing was written (--dry-run)")
    else:
        print(f"\nmeasure it:  edgeai spec bench -s draft.path={report.path} -s target.model={report.target}")


app.command(epilog="Example: edgeai spec serve -s draft.kind=ngram --port 8000")(serve)
app.command(epilog="Example: edgeai spec chat --url http://127.0.0.1:8000")(chat)
app.command(epilog="Example: edgeai spec load -s requests=24 -s serve.draft.kind=ngram")(load)


def _given(config: str | None, set_: Sequence[str] | None, example: str, **short: str | None) -> list[str]:
    """Return the overrides of a verb: its arguments, each of which must be set somewhere, then those of -s."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in short.items() if value is not None]
    overrides += set_ or ()
    for key in short:
        if config is None and not any(item.startswith(f"{key}=") for item in overrides):
            raise UsageError(f"no {key} given", hint=example)
    return overrides


def _given_runs(runs: Sequence[Path], config: str | None) -> list[str]:
    """Return the overrides for given heads: their folders, and without a config the target of the first run."""
    given = [f"runs={json.dumps([str(path) for path in runs])}"] if runs else []
    if runs and not config and (runs[0] / "run.json").exists() and Run.open(runs[0]).info["verb"] == "spec train":
        target = load_config(TrainConfig, runs[0] / "config.yaml").target
        given.append(f"train.target={target.model_dump_json()}")
    return given


def _wanted(out: Path | None) -> Path:
    if out is None:
        raise UsageError("no folder given for the head", hint="add --out DIR, or --dry-run to check first")
    return out


def _plan_train(cfg: TrainConfig, device: str, quiet: bool) -> "TrainPlan":
    from edgeai.core.device import choose_device  # imports torch
    from edgeai.spec.training.plan import plan

    with listening(quiet=quiet) as listener:
        return plan(cfg, device=choose_device(device).torch_device, metrics=Metrics(None, listener=listener))


def _given_prompts(prompts: Sequence[str], file: str | None, *, quiet: bool) -> list[str | Prompt]:
    """Return all prompts in order: the arguments, then the file."""
    texts: list[str | Prompt] = [sys.stdin.read().strip() if text == "-" else text for text in prompts]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise UsageError("a prompt is empty", hint="give some text")
    if file is not None:
        texts += load_prompts(file, on_skip=None if quiet else lambda note: print(note, file=sys.stderr))
    if not texts:
        raise UsageError("no prompt given", hint='for example: edgeai spec generate "Why is the sky blue?"')
    return texts


def _with_heading(texts: Sequence[str], number: int, answer: str) -> str:
    """Return an answer, below its prompt if there are several."""
    return answer if len(texts) == 1 else f"> {texts[number]}\n{answer}"


class _Stream:
    """Prints text on the terminal as it is generated."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts, self._number = texts, -1

    def __call__(self, number: int, text: str) -> None:
        if number != self._number:
            gap = "\n\n" if self._number >= 0 else ""
            print(gap + _with_heading(self._texts, number, ""), end="")
            self._number = number
        print(text, end="", flush=True)
