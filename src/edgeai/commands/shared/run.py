"""The run of a verb: created or resumed on the chosen device, and closed with the status of its outcome."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeai.commands.render.reports import view_of
from edgeai.commands.shared.progress import listening
from edgeai.core.config import Config, verb_of
from edgeai.core.errors import UsageError
from edgeai.core.run import Run


@contextmanager
def running(
    cfg: Config,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    verbose: bool = False,
    notes_only: bool = False,
) -> Iterator[Run]:
    """Yield the run for an area function. Call `run.finish("done", report)` at the end of the block.

    Args:
        cfg: Config of the verb; with `resume`, the config stored in that run.
        out: Run directory, or None for runs/<verb>-<time>.
        resume: Run directory to continue, instead of a new one.
        device: Value of --device.
        quiet: Whether to print neither progress nor notes.
        verbose: Whether to print every logged step.
        notes_only: Whether to print no progress, because the result streams to the terminal.
    """
    from edgeai.core.python_api.recorded_run import recorded_run  # imports torch

    known = view_of(verb_of(type(cfg))).logged
    argv = ["edgeai", *without_secrets(sys.argv[1:])]
    with (
        listening(quiet=quiet, verbose=verbose, notes_only=notes_only, known=known) as listener,
        recorded_run(cfg, argv=argv, out=out, resume=resume, device=device, listener=listener) as run,
    ):
        yield run


def without_secrets(argv: Sequence[str]) -> list[str]:
    """Return the command line with stars in place of an API key."""
    shown: list[str] = []
    for word in argv:
        name, _, value = word.partition("=")
        if name == "--api-key" and value:
            word = f"{name}=***"
        elif shown and shown[-1] == "--api-key":
            word = "***"
        shown.append(word)
    return shown


def refuse_with_resume(resume: object, *others: object, leave_out: str = "-c, -s and --out") -> None:
    """Refuse --resume together with options that the resumed run determines.

    Raises:
        UsageError: Both are given.
    """
    if resume is not None and any(others):
        raise UsageError("--resume takes its config and folder from the run", hint=f"leave out {leave_out}")
