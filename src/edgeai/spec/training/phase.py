"""Phases of a training run: the protocol that the training loop relies on, and the token phase (EAGLE-3).

`gto/phase.py` implements the GTO phase. Both phases minimize the token loss; GTO adds the loss of draft trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeai.spec.config.train import LossConfig, OptimConfig, TrainConfig
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.training.distributed import Ranks
from edgeai.spec.training.gto.objective import PathSums
from edgeai.spec.training.gto.paths import Paths
from edgeai.spec.training.steps import Step


class TreeStep(Protocol):
    """Draft trees of one optimizer step."""

    weight: float
    """Weight of the tree loss relative to the token loss."""
    path_scale: float
    """Factor of the summed surrogate of a micro-batch."""

    def paths(self, head: DraftHead, numbers: Sequence[int]) -> Paths | None:
        """Return the accepted paths of a micro-batch; None if there are none."""

    def add(self, sums: PathSums) -> None:
        """Add the surrogate's sums of a micro-batch."""

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Return the means over all micro-batches and ranks; `loss_gto` is the tree loss."""


class Phase(Protocol):
    """A part of training with its own optimizer and loss."""

    lr_key: str
    """Config key of the learning rate."""
    optim: OptimConfig
    first_step: int
    """Step of the run at which the phase begins."""
    num_steps: int
    """Optimizer steps of the phase."""

    @property
    def reference(self) -> DraftHead | None:
        """Frozen head that the phase compares with, if any."""

    def num_draft_steps(self, step: int) -> int:
        """Return the number of unrolled draft steps of the token loss at a step of the run."""

    def begin_step(self, step: Step, num_ranks: int) -> TreeStep:
        """Begin an optimizer step over the conversations of all ranks."""

    def validate(self, head: DraftHead) -> dict[str, float]:
        """Return further validation results of the head."""


class TokenPhase:
    """See `Phase`: training on the token loss only.

    Args:
        cfg: Configuration of the run.
        num_steps: Optimizer steps of the phase.
    """

    lr_key = "optim.lr"
    first_step = 0
    reference = None

    def __init__(self, cfg: TrainConfig, num_steps: int) -> None:
        self.optim, self.num_steps = cfg.optim, num_steps
        self._loss = cfg.loss

    def num_draft_steps(self, step: int) -> int:
        """See `Phase`."""
        return num_draft_steps(self._loss, step / self.num_steps)

    def begin_step(self, step: Step, num_ranks: int) -> NoTrees:
        """See `Phase`."""
        return NoTrees()

    def validate(self, head: DraftHead) -> dict[str, float]:
        """See `Phase`."""
        return {}


class NoTrees:
    """See `TreeStep`: a step without draft trees."""

    weight = path_scale = 0.0

    def paths(self, head: DraftHead, numbers: Sequence[int]) -> None:
        """See `TreeStep`."""

    def add(self, sums: PathSums) -> None:
        """See `TreeStep`."""

    def means(self, ranks: Ranks) -> dict[str, float]:
        """See `TreeStep`."""
        return {}


def num_draft_steps(config: LossConfig, progress: float) -> int:
    """Return the number of unrolled draft steps at a share of training.

    Short unrolls train the first step at low cost; longer ones follow later.
    """
    if progress >= config.ttt_ramp_frac:
        return config.ttt_steps
    return min(config.ttt_steps, 1 + int(config.ttt_steps * progress / config.ttt_ramp_frac))
