"""Token losses of a draft head: row losses against the target distribution, over the steps of the training-time test.

Source: EAGLE-3, arXiv 2503.01840, section 3.1 (training-time test); LK losses, arXiv 2602.23881.

Shapes: B sequences, T positions, Q queries (positions that count) of a sequence, R rows, H hidden, D draft vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.spec.config.train import LossConfig
from edgeai.spec.data.train_batch import TrainBatch
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.training.distributed import Ranks
from edgeai.spec.training.unroll import Unroll

RowLoss = Callable[[Tensor, Tensor], Tensor]
CHUNK_ROWS = 1024  # 1024 x 8192 float32 logits are 32 MiB: small enough to stay cheap, large enough for full speed


def soft_cross_entropy(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Return the cross-entropy to a soft target, -sum_v p_v log q_v, of each row [R]."""
    return -(target_probs * F.log_softmax(logits, -1)).sum(-1)


def lk_loss(logits: Tensor, target_probs: Tensor, *, decay: float) -> Tensor:
    """Return the likelihood-of-acceptance loss lambda * KL(p, q) + (1 - lambda) * TV(p, q) of each row [R].

    The acceptance of a sampled draft is alpha = sum_v min(p_v, q_v) = 1 - TV. While alpha is small, the gradient of TV
    vanishes and KL dominates; lambda = exp(-decay * alpha), detached, shifts the weight to TV as alpha grows.
    """
    log_q = F.log_softmax(logits, -1)
    overlap = torch.minimum(target_probs, log_q.exp()).sum(-1)
    kl = (target_probs * (target_probs.clamp_min(1e-12).log() - log_q)).sum(-1)
    weight = torch.exp(-decay * overlap.detach())
    return weight * kl + (1 - weight) * (1 - overlap)


def build_row_loss(config: LossConfig) -> RowLoss:
    """Return the row loss of a config."""
    if config.kind == "lk":
        return lambda logits, probs: lk_loss(logits, probs, decay=config.lk_decay)
    return soft_cross_entropy


class ProjectedLoss(torch.autograd.Function):
    """Weighted sum of a row loss of `hidden @ weight.T`, with gradients computed chunk by chunk in the forward pass.

    Logits of all rows and draft steps would need gigabytes; here they exist for one chunk at a time. The result equals
    the plain expression (tested).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        probs: Tensor,
        row_weight: Tensor,
        row_loss: RowLoss,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss [] and the argmax of each row's logits [R]."""
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        w = weight.to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        best = torch.empty(hidden.shape[0], dtype=torch.long, device=hidden.device)
        for begin in range(0, hidden.shape[0], CHUNK_ROWS):
            rows = slice(begin, begin + CHUNK_ROWS)
            h = hidden[rows].to(dtype)
            logits = F.linear(h, w).float()
            best[rows] = logits.argmax(-1)
            with torch.enable_grad():
                logits.requires_grad_()
                loss = (row_loss(logits, probs[rows].float()) * row_weight[rows]).sum()
                (grad,) = torch.autograd.grad(loss, logits)
            total += loss.detach()
            grad = grad.to(dtype)
            grad_hidden[rows] = (grad @ w).to(hidden.dtype)
            grad_weight += grad.t() @ h
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        ctx.mark_non_differentiable(best)
        return total, best

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients from the forward pass."""
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_total.to(grad_hidden.dtype), grad_weight * grad_total, None, None, None, None


@dataclass(frozen=True)
class StepSums:
    """Sums over a batch's counted rows for each draft step; divide by `count` for means."""

    loss: Tensor  # [S]
    hits: Tensor  # [S] rows whose draft argmax equals the target's argmax
    run_hits: Tensor  # [S] rows with hits at this and all earlier steps: expected length of an accepted chain
    count: Tensor  # [S] rows of answers, including those outside the draft vocabulary


def step_means(sums: Sequence[StepSums], ranks: Ranks) -> dict[str, float]:
    """Return the means per draft step over micro-batches and ranks, and the accept_len of a simulated greedy chain.

    Args:
        sums: Sums of this rank's micro-batches.
        ranks: Processes to average over.
    """
    names = ("loss", "hits", "run_hits", "count")
    total = torch.stack([torch.stack([getattr(s, name) for s in sums]).sum(0) for name in names])
    loss, hits, run_hits, count = ranks.sum(total.double()).tolist()
    values: dict[str, float] = {}
    for i in range(len(count)):
        rows = max(count[i], 1.0)
        values[f"loss_{i}"] = loss[i] / rows
        values[f"acc_{i}"] = hits[i] / rows
    # a chain cut short by the end of the answer counts with its actual length
    values["accept_len"] = 1.0 + sum(run_hits) / max(count[0], 1.0)
    return values


class TrainingTimeTest(nn.Module):
    """The loss of a head over several draft steps, each fed with the head's output of the previous step.

    Alignment at query t, step i: input token x[t+1+i], input feature fc(a[t]) at i = 0 and the head's own output after,
    label the target's distribution after x[t+1+i]. A row counts while its label x[t+2+i] is in the same answer as
    x[t+1].

    Args:
        head: Draft head.
        embedding: Frozen embedding of the target [V, H].
        lm_head: Output matrix of the target [V, H], whose rows of the draft vocabulary give the labels.
        cos: Cosine table of the head's RoPE [positions, hd].
        sin: Sine table of the head's RoPE [positions, hd].
        config: Row loss and weights of the steps.
        dtype: Number format of the matrix products.
    """

    def __init__(
        self,
        head: DraftHead,
        *,
        embedding: Tensor,
        lm_head: Tensor,
        cos: Tensor,
        sin: Tensor,
        config: LossConfig,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.head = head
        self.config = config
        self.dtype = dtype
        self.row_loss = build_row_loss(config)
        self.unroll = Unroll(head, embedding=embedding, cos=cos, sin=sin, dtype=dtype)
        # not a buffer, because it belongs to the target and must not be saved with the head
        self._label_head = lm_head[head.draft_to_target].to(dtype)

    def forward(self, batch: TrainBatch, num_steps: int, step_scale: Tensor) -> tuple[Tensor, StepSums]:
        """Unroll the head over a batch.

        Args:
            batch: Training sequences.
            num_steps: Number of draft steps S.
            step_scale: Factor of each step's summed loss [S]: its weight divided by the rows of the optimizer step.

        Returns:
            The loss to minimize [] and sums for logging.
        """
        rows = torch.arange(batch.ids.shape[0], device=batch.ids.device)[:, None, None]
        later = batch.queries[..., None] + torch.arange(2, num_steps + 1, device=batch.ids.device)
        # rows past the end of their answer are unrolled but masked out of the loss; they may exceed the text
        tokens = batch.ids[rows, later.clamp_max(batch.ids.shape[1] - 1)]  # [B, Q, S - 1]
        states = self.unroll(batch.ids, batch.features, batch.queries, tokens)
        total = torch.zeros((), device=batch.ids.device)
        sums: list[tuple[Tensor, ...]] = []
        in_run = torch.ones_like(batch.queries, dtype=torch.bool)
        for step, normed in enumerate(states):
            loss, stats, in_run = self._step_loss(batch, normed, step, in_run)
            total = total + loss * step_scale[step]
            sums.append((loss.detach(), *stats))
        return total, StepSums(*(torch.stack(column) for column in zip(*sums, strict=True)))

    def _step_loss(
        self, batch: TrainBatch, normed: Tensor, step: int, in_run: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
        """Compute the loss of one draft step over the rows that count, its sums, and which rows had only hits so
        far.
        """
        counted = batch.queries + 2 + step < batch.query_ends  # [B, Q]
        row, query = counted.nonzero(as_tuple=True)
        label_at = batch.queries[row, query] + 1 + step
        target_best = batch.best[row, label_at]
        covered = self.head.t2d[target_best]
        with torch.no_grad():
            probs = F.linear(batch.hidden[row, label_at].to(self.dtype), self._label_head).float().softmax(-1)
        loss, best = ProjectedLoss.apply(
            normed[row, query], self.head.lm_head.weight, probs, covered.float(), self.row_loss, self.dtype
        )
        hit = covered & (self.head.draft_to_target[best] == target_best)
        still = torch.zeros_like(in_run)
        still[row, query] = hit & in_run[row, query]
        count = torch.tensor(float(row.shape[0]), device=hit.device)
        return loss, (hit.sum().float(), still.sum().float(), count), still
