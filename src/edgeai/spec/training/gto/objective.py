"""Group Tree Optimization: raise the probability of accepted paths in trees that do better than their group.

For a group of m adjacent positions i with trees T_i of the current head M and reference trees T0_i of the frozen head
M0:

    R_i = r(T_i) - r(T0_i)                                   debiased reward (`rewards.py`)
    A_i = (R_i - mean R) / (std R + delta)                   advantage; std over the group (`groups.py`)
    s_i = exp((log M(S_i) - log M0(S_i)) / max(|S_i|, 1))    geometric-mean ratio along the longest accepted path S_i
    L   = -mean_i min(s_i A_i, clip(s_i, 1 - eps, 1 + eps) A_i)

Gradients flow through log M(S_i) only (`paths.py`), unrolled over the head's own outputs as in decoding.

Source: GTO, arXiv 2509.22134. The paper does not specify the following: skipped flat groups count as zero in the mean
over groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeai.spec.data.train_batch import TrainBatch
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.training.gto.paths import Paths, path_log_probs
from edgeai.spec.training.losses import StepSums, TrainingTimeTest
from edgeai.spec.training.unroll import Unroll


def surrogate(ratio: Tensor, advantage: Tensor, epsilon: float) -> Tensor:
    """Return the clipped surrogate -min(s A, clip(s, 1 - epsilon, 1 + epsilon) A) of each element."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


@dataclass(frozen=True)
class PathSums:
    """Sums over the paths of a batch; `ratio` and `clipped` over those that are not empty."""

    loss: Tensor  # [] surrogate
    ratio: Tensor  # []
    clipped: Tensor  # [] paths whose ratio is outside the interval on the side favored by the advantage: zero gradient
    count: Tensor  # []


class GroupTreeObjective(nn.Module):
    """Token loss plus the clipped surrogate of accepted paths.

    Args:
        token_loss: Training-time test of the current head.
        epsilon: Half width of the clipping interval of the ratio.
    """

    def __init__(self, token_loss: TrainingTimeTest, *, epsilon: float) -> None:
        super().__init__()
        self.token_loss = token_loss
        self.epsilon = epsilon
        self._reference: tuple[Unroll, DraftHead] | None = None  # not a submodule, because it is not trained

    def refer_to(self, reference: DraftHead, unroll: Unroll) -> None:
        """Set the frozen reference head M0 and its unrolling."""
        self._reference = unroll, reference

    def forward(
        self, batch: TrainBatch, num_steps: int, step_scale: Tensor, paths: Paths | None, path_scale: float
    ) -> tuple[Tensor, StepSums, PathSums]:
        """Compute the loss of a batch.

        Args:
            batch: Training sequences.
            num_steps: Number of draft steps of the token loss.
            step_scale: Factor of each step's summed loss [S], see `TrainingTimeTest.forward`.
            paths: Accepted paths of the same sequences; None if no group is active.
            path_scale: Factor of the summed surrogate.

        Returns:
            The loss to minimize [] and sums for logging.
        """
        loss, sums = self.token_loss(batch, num_steps, step_scale)
        zero = torch.zeros((), device=batch.ids.device)
        if paths is None:
            return loss, sums, PathSums(zero, zero, zero, zero)
        assert self._reference is not None
        ours = path_log_probs(self.token_loss.unroll, self.token_loss.head, batch, paths)
        with torch.no_grad():
            theirs = path_log_probs(*self._reference, batch, paths)
        ratio = ((ours - theirs) / paths.lengths.clamp_min(1)).exp()
        terms = surrogate(ratio, paths.advantages, self.epsilon)
        full = paths.lengths > 0
        with torch.no_grad():
            outside = torch.where(paths.advantages > 0, ratio > 1 + self.epsilon, ratio < 1 - self.epsilon)
            clipped = (outside & full & (paths.advantages != 0)).sum().float()
            stats = PathSums(terms.sum(), ratio[full].sum(), clipped, full.sum().float())
        return loss + terms.sum() * path_scale, sums, stats
