"""A run that is created or resumed on the chosen device, and closed with the right status whatever happens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeai.core.config import Config
from edgeai.core.device import choose_device
from edgeai.core.metrics import Listener
from edgeai.core.run import Run


@contextmanager
def recorded_run(
    cfg: Config, *, argv: Sequence[str], out: Path | None, resume: Path | None, device: str, listener: Listener | None
) -> Iterator[Run]:
    """Yield the run to pass to an area function. Call `run.finish("done", report)` at the end of the block.

    Args:
        cfg: The verb's config; with `resume` the one stored in that run.
        argv: The command line or function call to record.
        out: The new run directory, or None for runs/<verb>-<time>.
        resume: The run directory to continue instead of a new one.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        listener: Receiver of progress, notes and logged values.

    Raises:
        UsageError: The device name is unknown, `out` already holds a run, or `resume` is not a run or still running.
        EdgeAIError: This machine has no such device.
    """
    chosen = choose_device(device)
    on = {"device": chosen.torch_device, "device_why": chosen.why}
    if resume is not None:
        run = Run.open(resume, listener=listener)
        run.go_on(argv, **on, threads=chosen.threads)
    else:
        run = Run.create(cfg, out=out, argv=argv, **on, threads=chosen.threads, listener=listener)
    try:
        yield run
    except KeyboardInterrupt:
        run.finish("interrupted")
        run.metrics.note(f"interrupted; everything up to the last checkpoint is in {run.path}")
        raise
    except BaseException:
        run.finish("failed")
        raise
    if run.status == "running":
        run.finish("done")
