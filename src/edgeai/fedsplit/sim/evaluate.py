"""Evaluates models on the test samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.methods.method import Evaluated

_BATCH = 512


@dataclass(frozen=True)
class Score:
    """Test accuracy and mean loss; the mean over models if there are several."""

    accuracy: float
    loss: float
    by_client: tuple[float, ...] = ()
    """Accuracy of each client's own model."""


def evaluate(models: Sequence[Evaluated], test: Samples) -> Score:
    """Evaluate every model on all test samples. A model shared by several clients is tested once and counts for each.

    Args:
        models: Models to evaluate.
        test: Test samples.
    """
    tested = {id(model.module): _test(model.module, test) for model in {id(m.module): m for m in models}.values()}
    scores = [tested[id(model.module)] for model in models]
    accuracy = sum(score.accuracy for score in scores) / len(scores)
    loss = sum(score.loss for score in scores) / len(scores)
    return Score(accuracy, loss, tuple(score.accuracy for score in scores) if len(scores) > 1 else ())


@torch.no_grad()
def _test(module: nn.Module, test: Samples) -> Score:
    was_training = module.training
    module.eval()
    num_right, loss = 0, 0.0
    for x, y in zip(test.x.split(_BATCH), test.y.split(_BATCH), strict=True):
        logits = module(x)
        num_right += int((logits.argmax(1) == y).sum())
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
    module.train(was_training)
    return Score(num_right / len(test.y), loss / len(test.y))
