"""The trained hard-input miner: h(f(x)), the confidence that the edge's answer suffices.

Shapes: F pooled features, B frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.config.policy import MinerConfig, ScoreKind
from edgeai.collab.policy.scores import SCORES

MAX_STD = 3.0
"""Miner inputs are clipped to this many standard deviations from the mean of the first fit."""


class Miner(nn.Module):
    """A small head on the edge's pooled features and the classic scores, with output h in [0,1].

    h = sigmoid(logit(max_prob) + head(features, scores)). The head starts at 0, so an untrained miner equals max_prob.
    Source: LAECIPS puts a network on the edge's output; its layers are not published, these are ours.

    Args:
        num_features: Number of pooled features F.
        config: Hidden width and fitting parameters.
        seed: Seed of the initial weights.
    """

    mean: Tensor
    std: Tensor
    is_fitted: Tensor

    def __init__(self, num_features: int, config: MinerConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        num_inputs = num_features + len(SCORES)
        self.inner = nn.Linear(num_inputs, config.hidden)
        self.outer = nn.Linear(config.hidden, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.inner.weight.normal_(0.0, num_inputs**-0.5, generator=generator)
            for zero in (self.inner.bias, self.outer.weight, self.outer.bias):
                zero.zero_()
        self.register_buffer("mean", torch.zeros(num_inputs))
        self.register_buffer("std", torch.ones(num_inputs))
        self.register_buffer("is_fitted", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logit(h) [B] of frames given as `miner_input` [B,F+6]."""
        start = torch.logit(inputs[:, -len(SCORES)], eps=1e-4)
        # clipped so that the head cannot extrapolate far beyond its training data, as at the onset of a drift
        scaled = ((inputs - self.mean) / self.std).clamp(-MAX_STD, MAX_STD)
        return start + self.outer(torch.relu(self.inner(scaled)))[:, 0]

    @torch.no_grad()
    def score(self, inputs: Tensor) -> float:
        """Return the confidence h in one frame [F+6]."""
        return float(torch.sigmoid(self(inputs[None])))

    def fit(self, inputs: Tensor, agreements: Tensor, weights: Tensor) -> None:
        """Train on labeled frames with full-batch steps.

        Args:
            inputs: `miner_input` of each frame [B,F+6].
            agreements: Agreement q of edge and cloud in each frame [B].
            weights: Importance weight 1/p of each frame [B].
        """
        if not float(self.is_fitted):  # later fits keep the scale: the weights learned so far depend on it
            self.mean.copy_(inputs.mean(0))
            self.std.copy_(inputs.std(0, correction=0).clamp_min(1e-3))
            self.is_fitted.fill_(1.0)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        for _ in range(self.config.steps):
            optimizer.zero_grad()
            self.loss(inputs, agreements, weights).backward()
            optimizer.step()

    def loss(self, inputs: Tensor, agreements: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted mean loss [] for the target `config.target`.

        Cross-entropy to a target in [0,1] is minimal where h is the conditional mean of the target: a regression of q,
        or the probability that q reaches tau. AppealNet's h l - beta ln h is minimal at h = min(1, beta / l) (arXiv
        2105.04104).
        """
        logit = self(inputs)
        if self.config.target == "appealnet":
            rows = torch.sigmoid(logit) * (1 - agreements) - self.config.beta * F.logsigmoid(logit)
        else:
            above = self.config.target == "above_tau"
            target = (agreements >= self.config.tau).float() if above else agreements
            rows = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        return (rows * weights).sum() / weights.sum()


def miner_input(pooled: Tensor, scores: dict[ScoreKind, float]) -> Tensor:
    """Return the miner's input [F+6]: pooled features [F], then the classic scores."""
    return torch.cat([pooled.float().cpu(), torch.tensor([scores[name] for name in SCORES])])
