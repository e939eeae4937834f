"""Tests models after a round."""

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
    """Accuracy and mean loss; of several models the mean of both."""

    accuracy: float
    loss: float
    by_client: tuple[float, ...] = ()
    """Accuracy of each client's own model."""


def evaluate(models: Sequence[Evaluated], test: Samples) -> Score:
    """Tests every model on all test samples; one that several clients share is tested once, and counts for each."""
    tested = {id(model.module): _test(model.module, test) for model in {id(m.module): m for m in models}.values()}
    scores = [tested[id(model.module)] for model in models]
    accuracy = sum(score[0] for score in scores) / len(scores)
    loss = sum(score[1] for score in scores) / len(scores)
    return Score(accuracy, loss, tuple(score[0] for score in scores) if len(scores) > 1 else ())


@torch.no_grad()
def _test(module: nn.Module, test: Samples) -> tuple[float, float]:
    was_training = module.training
    module.eval()
    num_right, loss = 0, 0.0
    for x, y in zip(test.x.split(_BATCH), test.y.split(_BATCH), strict=True):
        logits = module(x)
        num_right += int((logits.argmax(1) == y).sum())
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
    module.train(was_training)
    return num_right / len(test.y), loss / len(test.y)
