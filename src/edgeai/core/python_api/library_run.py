"""The run of a library call: in a given or a temporary directory, without a terminal."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeai.core.config import Config
from edgeai.core.python_api.progress import CallbackListener, OnProgress
from edgeai.core.run import Run


@contextmanager
def library_run(
    cfg: Config,
    *,
    call: str,
    out: str | Path | None,
    device: str,
    on_progress: OnProgress | None,
    resume: bool = False,
) -> Iterator[Run]:
    """Yield a run for one library call; see `recorded_run`.

    Args:
        cfg: The verb's config.
        call: Name of the function, recorded in run.json.
        out: The run directory, or None for a temporary one, removed afterwards.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called with every progress report.
        resume: Continue the run in `out`.

    Raises:
        UsageError: The device or the run directory cannot be used.
    """
    from edgeai.core.python_api.recorded_run import recorded_run  # imports torch

    with tempfile.TemporaryDirectory(prefix="edgeai-") as scratch:
        folder = Path(scratch) / "run" if out is None else Path(out)
        with recorded_run(
            cfg,
            argv=[call],
            out=folder,
            resume=folder if resume else None,
            device=device,
            listener=CallbackListener(on_progress),
        ) as run:
            yield run
