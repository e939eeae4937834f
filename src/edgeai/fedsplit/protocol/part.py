"""A trained part of the model, its optimizer and its training memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.part_cost import PartCost


@dataclass
class Part:
    """A module on a device or at the server, and its cost per sample."""

    module: nn.Module
    cost: PartCost


def build_optimizer(
    parameters: Iterable[nn.Parameter], cfg: OptimConfig, *, lr_scale: float = 1.0
) -> torch.optim.Optimizer:
    """Build the configured optimizer over the trainable parameters."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    lr = cfg.lr * lr_scale
    if cfg.kind == "adam":
        return torch.optim.Adam(trainable, lr=lr, weight_decay=cfg.weight_decay)
    return torch.optim.SGD(trainable, lr=lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def training_bytes(cost: PartCost, cfg: OptimConfig) -> int:
    """Return the bytes of a part's weights, gradients and optimizer state."""
    slots = 2 if cfg.kind == "adam" else 1 if cfg.momentum else 0
    return cost.weight_bytes + 4 * cost.num_trainable * (1 + slots)
