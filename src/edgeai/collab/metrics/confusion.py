"""Segmentation metrics from a confusion matrix, which is summed over frames in constant memory.

Shapes: H x W pixels, C classes; a confusion matrix [C,C] counts pixels, rows are the true class, columns the predicted.

    IoU_c = n_cc / (row_c + column_c - n_cc)      mIoU: mean over the classes in truth or prediction
    CPA   = mean over the true classes of n_cc / row_c
    accuracy = sum n_cc / n                       FWIoU = sum_c row_c IoU_c / n

Source: the metrics of the ianvs robot benchmark (CPA is its mean row-normalized diagonal). Differs from it: a class
that occurs neither in truth nor in prediction is left out of the means instead of counting as 0 or NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeai.core.report.fields import about

IGNORE = 255
"""Label of pixels that are not counted."""

Labels = NDArray[np.uint8]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SegMetrics:
    """Metrics of a set of pixels, each in [0,1]."""

    miou: float = field(
        metadata=about("mIoU", unit="1", best="max", meaning="mean over classes of intersection over union")
    )
    cpa: float = field(
        metadata=about("CPA", unit="1", best="max", meaning="class pixel accuracy, the mean recall of the classes")
    )
    accuracy: float = field(metadata=about("pixel accuracy", unit="1", best="max", meaning="share of correct pixels"))
    fwiou: float = field(
        metadata=about("FWIoU", unit="1", best="max", meaning="IoU weighted by class frequency in the truth")
    )
    iou: tuple[float | None, ...] = field(metadata=about("IoU of each class", hidden=True))
    """None where a class occurs neither in truth nor in prediction [C]."""


def confusion(truth: Labels, prediction: Labels, num_classes: int) -> Counts:
    """Return the confusion matrix of one frame: pixels by true and predicted class [C,C].

    Args:
        truth: True labels; IGNORE pixels are not counted [H,W].
        prediction: Predicted labels; IGNORE pixels are not counted [H,W].
        num_classes: Number of classes C.

    Raises:
        ValueError: The shapes differ, or a label is neither a class nor IGNORE.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"labels of {truth.shape} and of {prediction.shape} do not match")
    counted = (truth != IGNORE) & (prediction != IGNORE)
    pairs = truth[counted].astype(np.int64) * num_classes + prediction[counted]
    if pairs.size and (truth[counted].max() >= num_classes or prediction[counted].max() >= num_classes):
        raise ValueError(f"a label is above the last of {num_classes} classes")
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def seg_metrics(counts: Counts) -> SegMetrics | None:
    """Return the metrics of a confusion matrix [C,C]; None if it contains no pixel."""
    total = counts.sum()
    if total == 0:
        return None
    hits = counts.diagonal().astype(np.float64)
    true = counts.sum(1)
    union = true + counts.sum(0) - counts.diagonal()
    iou = hits / np.maximum(union, 1)
    return SegMetrics(
        miou=float(iou[union > 0].mean()),
        cpa=float((hits[true > 0] / true[true > 0]).mean()),
        accuracy=float(hits.sum() / total),
        fwiou=float((true * iou).sum() / total),
        iou=tuple(float(value) if seen else None for value, seen in zip(iou, union > 0, strict=True)),
    )


def frame_loss(counts: Counts) -> float | None:
    """Return the loss 1 - mIoU of one frame, in [0,1]; None without a labeled pixel."""
    metrics = seg_metrics(counts)
    return None if metrics is None else 1.0 - metrics.miou


def agreement(edge: Labels, cloud: Labels, num_classes: int, measure: str = "pixels") -> float | None:
    """Return the agreement q in [0,1] of the edge's labels with the cloud's; None if the cloud labeled no pixel.

    Args:
        edge: Labels of the edge [H,W].
        cloud: Labels of the cloud; IGNORE pixels are not counted [H,W].
        num_classes: Number of classes C.
        measure: "pixels" for the share of equal pixels, "miou" for the mIoU.
    """
    if measure == "pixels":
        counted = cloud != IGNORE
        return float((edge == cloud)[counted].mean()) if counted.any() else None
    metrics = seg_metrics(confusion(cloud, edge, num_classes))
    return None if metrics is None else metrics.miou
