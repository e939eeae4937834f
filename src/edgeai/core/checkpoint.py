"""What every training loop needs: checkpoints replaced atomically, the finite-loss check, the learning-rate schedule.

torch is imported inside the functions: `edgeai --help` must not load it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeai.core.errors import EdgeAIError

STATE = "state.pt"
"""File of a run directory that holds everything a resumed run needs."""


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the training state of a run atomically: a kill leaves the old file or the new one.

    Args:
        folder: The run directory.
        state: Plain values and tensors, as torch.load(weights_only=True) accepts them.

    Raises:
        EdgeAIError: The file cannot be written, for example because the disk is full.
    """
    import torch

    partial = folder / f".{STATE}.part"
    try:
        with _write_errors(folder / STATE):
            torch.save(state, partial)
            partial.replace(folder / STATE)
    finally:
        partial.unlink(missing_ok=True)


def load_state(folder: Path, *, device: str = "cpu") -> dict[str, Any] | None:
    """Return the training state of a run, or None if none was saved yet.

    Args:
        folder: The run directory.
        device: The torch device that receives the tensors.
    """
    import torch

    path = folder / STATE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


@contextmanager
def replacing_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder for new versions of `names`, then move them into `folder`, each atomically.

    Args:
        folder: The checkpoint folder; created if missing.
        names: The files that the block writes, in the order in which they are moved.

    Raises:
        EdgeAIError: A file cannot be written, for example because the disk is full.
    """
    partial = folder.with_name(folder.name + ".partial")
    with _write_errors(folder):
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        folder.mkdir(exist_ok=True)
        for name in names:
            (partial / name).replace(folder / name)
        partial.rmdir()


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Convert the errors of a full disk into an expected error with a hint."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises RuntimeError on a full disk
        raise EdgeAIError(
            f"cannot write {path}: {error}", hint="free some space, then continue with --resume"
        ) from error


def check_finite(values: Sequence[float], *, step: int, last: Path, lr_key: str, lr: float) -> None:
    """Stop training before a non-finite update is applied or saved.

    Args:
        values: Losses and gradient norms to check.
        step: The optimizer step they belong to, from 1.
        last: Folder of the last saved weights, which may not exist yet.
        lr_key: Config key of the learning rate, such as "optim.lr".
        lr: The learning rate in use.

    Raises:
        EdgeAIError: A value is NaN or infinite.
    """
    if all(map(math.isfinite, values)):
        return
    kept = f"the last good weights are in {last}; " if last.exists() else ""
    raise EdgeAIError(
        f"the loss is not finite at step {step}", hint=f"{kept}train again with a lower {lr_key} (now {lr})"
    )


def warmup_cosine(step: int, num_steps: int, *, lr: float, warmup_frac: float, min_lr_frac: float = 0.0) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay.

    Args:
        step: The optimizer step, from 0.
        num_steps: The steps of the whole training.
        lr: The peak learning rate.
        warmup_frac: The share of the steps that warm up; at least one step does.
        min_lr_frac: The learning rate at the end, as a share of the peak.
    """
    warmup = max(1, round(warmup_frac * num_steps))
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return lr * (min_lr_frac + (1 - min_lr_frac) * 0.5 * (1 + math.cos(math.pi * progress)))
