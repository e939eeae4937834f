"""Label inference from gradients at the cut, by norm and direction (Li et al. 2022, "Label leakage and protection").

Shapes: n samples, m classes. g [n, ...] is the gradient of each sample's own loss at the cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.fedsplit.reports.leakage_report import LabelLeakage


def gradients_at_cut(z: Tensor, y: Tensor, head_loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the gradient [n, ...] of each sample's own loss with respect to the sent data.

    Args:
        z: Sent data [n, ...].
        y: Labels [n] int64.
        head_loss: (z, y) to the *mean* loss of the server part.
    """
    z = z.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(head_loss(z, y), [z])
    return gradient * len(z)


def label_leakage(gradients: Tensor, y: Tensor, *, num_clues: int, seed: int) -> LabelLeakage:
    """Return how well gradients separate the classes.

    The result is the mean over all classes with enough samples of the AUC of that class against the rest. A norm
    attacker need not know whether the class has larger or smaller norms: max(AUC, 1 - AUC) counts, so chance is
    slightly above 0.5 for few samples. With two classes only one is measured, since the other gives the same value.

    Args:
        gradients: Gradients [n, ...] of the samples' own losses.
        y: Labels [n] int64.
        num_clues: Samples of a class whose label the attacker knows; they are excluded from the score.
        seed: Seed of the choice of these samples.
    """
    flat = gradients.detach().flatten(1)
    norms, directions = flat.norm(dim=1), F.normalize(flat, dim=1)
    classes, counts = y.unique(return_counts=True)
    usable = [int(label) for label, count in zip(classes, counts, strict=True) if num_clues < count < len(y)]
    if len(classes) == 2:
        usable = usable[-1:]
    generator = torch.Generator().manual_seed(seed)
    by_norm, by_cosine = [], []
    for label in usable:
        members = (y == label).nonzero().flatten()
        clues = members[torch.randperm(len(members), generator=generator)[:num_clues]]
        is_unknown = torch.ones(len(y), dtype=torch.bool, device=y.device)
        is_unknown[clues] = False
        is_label = y[is_unknown] == label
        scores = (directions @ directions[clues].mean(0))[is_unknown]
        area = auc(norms, y == label)
        by_norm.append(max(area, 1.0 - area))
        by_cosine.append(auc(scores, is_label))
    return LabelLeakage(auc_norm=_mean(by_norm), auc_cosine=_mean(by_cosine))


def auc(scores: Tensor, is_positive: Tensor) -> float:
    """Return the area under the ROC curve: the probability that a positive scores above a negative, ties as half.

    Args:
        scores: Scores [n].
        is_positive: Mask [n], with at least one positive and one negative.
    """
    positive, negative = scores[is_positive].double(), scores[~is_positive].double().sort().values
    below = torch.searchsorted(negative, positive, right=False).double()
    not_above = torch.searchsorted(negative, positive, right=True).double()
    return float((below + not_above).mean() / (2.0 * len(negative)))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.5
