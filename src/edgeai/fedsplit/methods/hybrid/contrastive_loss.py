"""Supervised contrastive loss (Khosla et al., NeurIPS 2020, equation 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(features: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss: mean over samples with another one of their class in the batch.

    Args:
        features: Features [b, d], of any norm.
        y: Labels, [b].
        temperature: Divisor of the cosine similarities.
    """
    unit = F.normalize(features)
    is_self = torch.eye(len(y), dtype=torch.bool, device=y.device)
    logits = (unit @ unit.T / temperature).masked_fill(is_self, -math.inf)
    positive_mask = (y[:, None] == y[None, :]) & ~is_self
    log_share = (logits - logits.logsumexp(1, keepdim=True)).masked_fill(~positive_mask, 0.0)
    num_positives = positive_mask.sum(1)
    anchor_mask = num_positives > 0
    if not anchor_mask.any():
        return features.sum() * 0.0
    return -(log_share.sum(1)[anchor_mask] / num_positives[anchor_mask]).mean()
