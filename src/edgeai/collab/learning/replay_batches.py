"""Batches of labeled frames as tensors, and the model's quality on them.

Shapes: B frames, C classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgeai.collab.learning.replay_buffer import ReplayItem
from edgeai.collab.metrics.confusion import confusion, seg_metrics
from edgeai.collab.models.inputs import stack_images
from edgeai.collab.models.seg_model import SegModel, trainable_net
from edgeai.collab.wire.codec import decode_image

_EVAL_BATCH = 8  # batch size without training: bounds memory, does not change results


def images_of(items: Sequence[ReplayItem], device: torch.device) -> Tensor:
    """Return the decoded images [B,H,W,3] uint8."""
    images = [decode_image(item.image, (item.height, item.width)) for item in items]
    return stack_images(images, device)


def targets_of(items: Sequence[ReplayItem]) -> tuple[Tensor, Tensor]:
    """Return labels [B,H,W] int64 and weights [B,H,W]."""
    labels, weights = zip(*(item.labels_and_weight() for item in items), strict=True)
    return torch.from_numpy(np.stack(labels).astype(np.int64)), torch.from_numpy(np.stack(weights))


def eval_batches(items: Sequence[ReplayItem]) -> list[Sequence[ReplayItem]]:
    """Split items into batches for evaluation."""
    return [items[place : place + _EVAL_BATCH] for place in range(0, len(items), _EVAL_BATCH)]


def evenly(items: Sequence[ReplayItem], num: int) -> list[ReplayItem]:
    """Return at most `num` items, evenly spaced, including the last."""
    count = min(num, len(items))
    return [items[len(items) - 1 - place * len(items) // count] for place in range(count)]


@torch.no_grad()
def miou_on(model: SegModel, items: Sequence[ReplayItem]) -> float | None:
    """Return the mIoU of a model by the cloud's labels; None without any."""
    device, num_classes = device_of(model), len(model.classes)
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    for batch in eval_batches(items):
        predictions = model.forward_batch(images_of(batch, device))[0].argmax(1).byte().cpu().numpy()
        for item, prediction in zip(batch, predictions, strict=True):
            total += confusion(item.labels_and_weight()[0], prediction, num_classes)
    metrics = seg_metrics(total)
    return None if metrics is None else metrics.miou


def device_of(model: SegModel) -> torch.device:
    """Return the device of a trainable model."""
    return next(trainable_net(model).parameters()).device
