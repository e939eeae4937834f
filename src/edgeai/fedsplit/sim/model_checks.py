"""Properties of a model that decide whether and how it can be trained: BatchNorm, and random layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.split_model import SplitModel


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether a model keeps running statistics."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def draws_at_random(model: nn.Module, *, is_custom: bool) -> bool:
    """Return whether a model may draw random numbers in training.

    Args:
        model: Whole model.
        is_custom: Whether it is a user's own model, whose layers cannot be inspected; assumed to draw.
    """
    return is_custom or any(
        isinstance(module, nn.modules.dropout._DropoutNd | nn.RReLU) or getattr(module, "dropout", 0) > 0
        for module in model.modules()
        if isinstance(getattr(module, "dropout", 0), int | float)
    )


def check_last_batches(model: SplitModel, num_samples: Sequence[int], batch: int) -> None:
    """Reject a batch size that leaves BatchNorm a batch of one, before torch would fail within a round.

    Args:
        model: Model to train.
        num_samples: Number of samples of each client.
        batch: Batch size.

    Raises:
        UsageError: A client's last batch has one sample, and the model cannot train on it.
    """
    if not has_batchnorm(model.model):
        return
    for client, count in enumerate(num_samples):
        if count % batch == 1 or batch == 1:
            if _trains_on_one(model):
                return
            raise UsageError(
                f"client {client} has {count} samples: its last batch has one, on which BatchNorm cannot train",
                hint=f"change batch (now {batch}), or use model.norm: group",
            )


def _trains_on_one(model: SplitModel) -> bool:
    """Return whether a batch of one can be normalized: over the pixels of an image, but not over the batch alone."""
    trial = copy.deepcopy(model.model).train()  # a copy: the model's own running statistics must not change
    device = next((parameter.device for parameter in trial.parameters()), torch.device("cpu"))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial(torch.zeros(1, *model.sample_shape, dtype=model.dtype, device=device))
    except ValueError:  # torch: expected more than one value per channel
        return False
    return True
