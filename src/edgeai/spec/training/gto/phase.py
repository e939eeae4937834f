"""The GTO phase of a training run, as used by the loop in `training/train.py`."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from edgeai.spec.config.train import TrainConfig
from edgeai.spec.draft.eagle3 import head_rotary
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.training.distributed import Ranks
from edgeai.spec.training.gto.objective import GroupTreeObjective, PathSums
from edgeai.spec.training.gto.paths import Paths
from edgeai.spec.training.gto.rollout import Rollouts
from edgeai.spec.training.gto.rollout_sums import RolloutSums, tree_means
from edgeai.spec.training.prepare import Prepared
from edgeai.spec.training.steps import Step
from edgeai.spec.training.unroll import Unroll

_VAL_GROUPS = 1  # per conversation: enough positions for a stable mean, over many texts


class GtoPhase:
    """See `Phase`. The current head is frozen as the reference whose reward is to be exceeded.

    Args:
        cfg: Configuration of the run.
        ready: Target, texts and head.
        objective: Loss of the run; receives the reference.
        first_step: Step of the run at which the phase begins.
        num_steps: Optimizer steps of the phase.
    """

    lr_key = "gto.lr"

    def __init__(
        self, cfg: TrainConfig, ready: Prepared, objective: GroupTreeObjective, *, first_step: int, num_steps: int
    ) -> None:
        self.first_step, self.num_steps = first_step, num_steps
        self.optim = cfg.optim.model_copy(update={"lr": cfg.gto.lr})
        self._num_draft_steps, self._gto = cfg.loss.ttt_steps, cfg.gto
        target = ready.target
        self.reference: DraftHead = copy.deepcopy(ready.head).requires_grad_(False)
        cos, sin = head_rotary(self.reference.shape, target)
        dtype = objective.token_loss.dtype
        objective.refer_to(
            self.reference, Unroll(self.reference, embedding=target.embedding, cos=cos, sin=sin, dtype=dtype)
        )
        few = cfg.gto.model_copy(update={"groups": _VAL_GROUPS, "text_frac": 1.0, "starts": "fixed"})
        self._rollouts = Rollouts(cfg.gto, target, ready.train, reference=self.reference, seed=cfg.seed)
        self._val_rollouts = Rollouts(few, target, ready.val, reference=self.reference, seed=0)
        self._val_numbers = range(len(ready.val))

    def num_draft_steps(self, step: int) -> int:
        """See `Phase`. The token loss always unrolls all draft steps."""
        return self._num_draft_steps

    def begin_step(self, step: Step, num_ranks: int) -> GtoStep:
        """See `Phase`."""
        num_groups = sum(len(self._rollouts.starts(number, step.epoch)) for number in step.numbers)
        num_places = self._gto.group_size * num_groups
        return GtoStep(self._rollouts, step.epoch, self._gto.omega, self._gto.omega / max(num_places, 1) * num_ranks)

    def validate(self, head: DraftHead) -> dict[str, float]:
        """See `Phase`."""
        return self._val_rollouts.play(head, self._val_numbers, 0).sums.means()


class GtoStep:
    """See `TreeStep`: rollouts of one optimizer step.

    Args:
        rollouts: Rollouts of the training texts.
        epoch: Epoch of the step.
        weight: Weight of the tree loss relative to the token loss.
        path_scale: Factor of the summed surrogate of a micro-batch.
    """

    def __init__(self, rollouts: Rollouts, epoch: int, weight: float, path_scale: float) -> None:
        self.weight, self.path_scale = weight, path_scale
        self._rollouts, self._epoch = rollouts, epoch
        self._played = RolloutSums()
        self._path_sums: list[PathSums] = []

    def paths(self, head: DraftHead, numbers: Sequence[int]) -> Paths | None:
        """See `TreeStep`."""
        rollout = self._rollouts.play(head, numbers, self._epoch)
        self._played += rollout.sums
        return rollout.paths

    def add(self, sums: PathSums) -> None:
        """See `TreeStep`."""
        self._path_sums.append(sums)

    def means(self, ranks: Ranks) -> dict[str, float]:
        """See `TreeStep`."""
        return tree_means(self._played, self._path_sums, ranks)
