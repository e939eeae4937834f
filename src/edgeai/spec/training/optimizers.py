"""Optimizers of the draft head and their learning rate."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from edgeai.core.checkpoint import warmup_cosine
from edgeai.spec.config.train import OptimConfig
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.training.muon import Float32Muon


def build_optimizers(config: OptimConfig, head: DraftHead, *, muon_dtype: torch.dtype) -> list[Optimizer]:
    """Build AdamW for all weights, or Muon for the inner matrices and AdamW for norms and the output matrix.

    Muon's updates are scaled to the root mean square of AdamW's, so that both share one learning rate.

    Args:
        config: Optimizer and learning rate.
        head: Draft head to train.
        muon_dtype: Number format of Muon's orthogonalization, bfloat16 or float32.
    """
    named = list(head.named_parameters())
    inner = [p for name, p in named if config.kind == "muon" and p.ndim == 2 and name != "lm_head.weight"]
    taken = {id(p) for p in inner}
    adamw = torch.optim.AdamW(
        [p for _, p in named if id(p) not in taken],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )
    if not inner:
        return [adamw]
    muon: Optimizer
    if muon_dtype == torch.float32:
        muon = Float32Muon(inner, lr=config.lr, momentum=0.95, weight_decay=config.weight_decay)
    else:
        muon = torch.optim.Muon(
            inner, lr=config.lr, momentum=0.95, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
    return [muon, adamw]


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then cosine decay to `min_lr_frac`; `step` counts from 0."""
    return warmup_cosine(step, num_steps, lr=config.lr, warmup_frac=config.warmup_frac, min_lr_frac=config.min_lr_frac)
