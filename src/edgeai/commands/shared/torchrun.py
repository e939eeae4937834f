"""A training run in one process, or in several processes started by torchrun."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.commands.shared.run import running
from edgeai.spec.config.train import TrainConfig

if TYPE_CHECKING:
    from edgeai.spec.training.train_report import TrainReport


def train_everywhere(
    cfg: TrainConfig, *, out: Path | None, resume: Path | None, device: str, quiet: bool, verbose: bool
) -> "tuple[Path, TrainReport] | None":
    """Trains; only the first process writes files and prints.

    Returns:
        Run directory and report; None in all other processes.
    """
    from edgeai.core.device import choose_device  # imports torch
    from edgeai.core.metrics import Metrics
    from edgeai.core.run import Run
    from edgeai.spec.training.distributed import process_group
    from edgeai.spec.training.train import run_train

    chosen = choose_device(device).torch_device
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    if launched and chosen.startswith("cuda"):
        device = chosen = f"cuda:{os.environ['LOCAL_RANK']}"
    with process_group(chosen, launched=launched) as ranks:
        if not ranks.is_first:
            path = ranks.share(Path())
            run_train(cfg, Run(path, {"device": chosen}, Metrics(None)), ranks=ranks, resume=resume is not None)
            return None
        with running(cfg, out=out, resume=resume, device=device, quiet=quiet, verbose=verbose) as run:
            ranks.share(run.path)
            report = run_train(cfg, run, ranks=ranks, resume=resume is not None)
            run.finish("done", report.to_json())
        return run.path, report
