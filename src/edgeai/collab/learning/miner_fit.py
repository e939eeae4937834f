"""Fit the miner to the edge model on labeled frames, and reject the fit if held-out frames contradict it.

Shapes: B frames, F pooled features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.collab.learning.replay_batches import device_of, eval_batches, images_of
from edgeai.collab.learning.replay_buffer import ReplayItem
from edgeai.collab.metrics.confusion import agreement
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import confidence
from edgeai.collab.wire.model_push import apply_push, encode_push
from edgeai.core.errors import EdgeAIError


@dataclass(frozen=True)
class MinerBatch:
    """Training data of the miner."""

    inputs: Tensor
    """[B,F+6]."""
    agreements: Tensor
    """Agreement of edge and cloud [B]."""
    weights: Tensor
    """Importance weights [B]."""


def miner_batch(model: SegModel, items: Sequence[ReplayItem], measure: str) -> MinerBatch | None:
    """Return miner inputs for the current model; None without labels.

    Args:
        model: Edge model.
        items: Labeled frames.
        measure: Measure of agreement, pixels or miou.
    """
    inputs, agreements, weights = [], [], []
    for batch in eval_batches(items):
        with torch.no_grad():
            logits, pooled = model.forward_batch(images_of(batch, device_of(model)))
        for item, row, features in zip(batch, logits, pooled, strict=True):
            labels = row.argmax(0).byte().cpu().numpy()
            q = agreement(labels, item.labels_and_weight()[0], len(model.classes), measure)
            if q is not None:
                inputs.append(miner_input(features, confidence(row.softmax(0))))
                agreements.append(q)
                weights.append(item.importance)
    return MinerBatch(torch.stack(inputs), torch.tensor(agreements), torch.tensor(weights)) if inputs else None


def fit_miner(
    miner: Miner, old: Mapping[str, Tensor], learn: MinerBatch, holdout: MinerBatch | None, *, gate: bool
) -> bytes:
    """Fit a miner in place and return its push.

    Args:
        miner: Miner to fit; afterwards equal to the edge's miner after the push.
        old: State of the edge's miner.
        learn: Training data.
        holdout: Held-out data; None if there is none.
        gate: Restore the old state if the loss on `holdout` rises.

    Returns:
        The push, or no bytes if the old state was restored, as always when training diverges.
    """
    before = None if holdout is None else _loss(miner, holdout)
    miner.fit(learn.inputs, learn.agreements, learn.weights)
    try:
        push = encode_push(miner.state_dict(), old, "full")
        miner.load_state_dict(apply_push(push, old))
        worse = holdout is not None and before is not None and _loss(miner, holdout) > before
    except EdgeAIError:  # diverged: a value is not finite
        miner.load_state_dict(dict(old))
        return b""
    if gate and worse:
        miner.load_state_dict(dict(old))
        return b""
    return push


@torch.no_grad()
def _loss(miner: Miner, batch: MinerBatch) -> float:
    return float(miner.loss(batch.inputs, batch.agreements, batch.weights))
