"""Hard-input mining: how sure is the edge of a frame, is it uploaded, and what is a label then worth.

A confidence score s lies in [0,1]; high means that the edge suffices. With p the class probabilities of a pixel:

    max_prob             mean of max p
    margin               mean of (largest p - second largest)
    entropy              mean of 1 - H(p) / ln C
    frac_above           share of pixels with max p > 0.9
    sedna_cross_entropy  mean over regions of 1 + sum p ln p / ln C, p averaged over the region
    ibt                  share of regions whose mean max p is above 0.5

Shapes: C classes, H x W pixels, F pooled features, B frames.

Source: LAECIPS' public ancestor (ianvs) for the first four and its 0.9; Sedna's CrossEntropyFilter and IBTFilter for
the last two. Differs from Sedna: its filters score the boxes of a detector, here connected regions of the edge's
labels stand for boxes (ours); and 0 ln 0 is 0, where Sedna's filter crashes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.config.policy import ExploreConfig, MinerConfig, ScoreKind
from edgeai.collab.metrics.confusion import IGNORE, Labels, confusion, seg_metrics
from edgeai.collab.models.regions import connected_regions

SCORES: tuple[ScoreKind, ...] = ("max_prob", "margin", "entropy", "frac_above", "sedna_cross_entropy", "ibt")
SURE = 0.9
"""Probability from which frac_above counts a pixel."""
BOX_SURE = 0.5
"""Probability from which ibt counts a region."""
_EXPLORE_STREAM = 0xE4B1  # keeps the draws apart from others that use the same seed


@torch.no_grad()
def confidence(probs: Tensor) -> dict[ScoreKind, float]:
    """All classic scores of one frame.

    Args:
        probs: Class probabilities, C >= 2 [C,H,W].

    Returns:
        Every score of `SCORES`, in that order.
    """
    num_classes = probs.shape[0]
    best, labels = probs.max(0)  # [H,W]
    second = probs.scatter(0, labels[None], -1.0).amax(0)
    regions = torch.from_numpy(connected_regions(labels.byte().cpu().numpy())).to(probs.device).flatten()
    size = torch.bincount(regions).to(probs.dtype)  # [regions]
    region_probs = torch.zeros(num_classes, len(size), dtype=probs.dtype, device=probs.device)
    region_probs.index_add_(1, regions, probs.flatten(1)).div_(size)
    region_best = torch.zeros_like(size).index_add_(0, regions, best.flatten()).div_(size)
    scores = (
        best.mean(),
        (best - second).mean(),
        _sureness(probs).mean(),
        (best > SURE).float().mean(),
        _sureness(region_probs).mean(),
        (region_best > BOX_SURE).float().mean(),
    )
    # rounding may leave [0,1] by a hair
    return {name: min(max(float(score), 0.0), 1.0) for name, score in zip(SCORES, scores, strict=True)}


def _sureness(probs: Tensor) -> Tensor:
    """1 + sum p ln p / ln C: 1 for a certain class, 0 for none preferred; classes come first [C,...]."""
    return 1.0 + torch.special.xlogy(probs, probs).sum(0) / math.log(probs.shape[0])


def agreement(edge: Labels, cloud: Labels, num_classes: int, measure: str = "pixels") -> float | None:
    """How far the edge's labels agree with the cloud's, q in [0,1]; None if the cloud labelled nothing.

    Args:
        edge: Labels [H,W].
        cloud: Labels; IGNORE counts nowhere [H,W].
        num_classes: C.
        measure: "pixels" for the share of equal pixels, "miou" for the mIoU.
    """
    if measure == "pixels":
        counted = cloud != IGNORE
        return float((edge == cloud)[counted].mean()) if counted.any() else None
    metrics = seg_metrics(confusion(cloud, edge, num_classes))
    return None if metrics is None else metrics.miou


MAX_SCALED = 3.0
"""Standard deviations from the mean of the first fit beyond which the miner's inputs are cut."""


class Miner(nn.Module):
    """h(f(x)) in [0,1]: a small head on the edge's pooled features and the classic scores.

    h = sigmoid(logit(max_prob) + head(features, scores)), and the head starts at 0: an untrained miner is max_prob.
    Source: LAECIPS puts a network on the edge's output; its layers are not published, these are ours.

    Args:
        num_features: F.
        config: Its size and how it is fitted.
        seed: Of its first weights.
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
        """logit(h) of frames given as `miner_input` [B,F+6] -> [B]."""
        start = torch.logit(inputs[:, -len(SCORES)], eps=1e-4)
        # far from all that it was fitted to, as at the onset of a drift, the head must not run away
        scaled = ((inputs - self.mean) / self.std).clamp(-MAX_SCALED, MAX_SCALED)
        return start + self.outer(torch.relu(self.inner(scaled)))[:, 0]

    @torch.no_grad()
    def score(self, inputs: Tensor) -> float:
        """Confidence h in one frame [F+6]."""
        return float(torch.sigmoid(self(inputs[None])))

    def fit(self, inputs: Tensor, agreements: Tensor, weights: Tensor) -> None:
        """Learns from labelled frames, all of them in every step.

        Args:
            inputs: `miner_input` of each [B,F+6].
            agreements: q of each [B].
            weights: Importance weights 1/p of each [B].
        """
        if not float(
            self.is_fitted
        ):  # later fits keep the scale, or the weights learned so far would mean other things
            self.mean.copy_(inputs.mean(0))
            self.std.copy_(inputs.std(0, correction=0).clamp_min(1e-3))
            self.is_fitted.fill_(1.0)
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        for _ in range(self.config.steps):
            optimizer.zero_grad()
            self.loss(inputs, agreements, weights).backward()
            optimizer.step()

    def loss(self, inputs: Tensor, agreements: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of what `config.target` asks for [].

        Cross-entropy to a target in [0,1] is least where h is its conditional mean: a regression of q, or the
        probability that q reaches tau. AppealNet's h l - beta ln h is least at h = min(1, beta / l) (arXiv
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
    """What the miner looks at: pooled features [F], then the classic scores -> [F+6]."""
    return torch.cat([pooled.float().cpu(), torch.tensor([scores[name] for name in SCORES])])


@dataclass(frozen=True)
class Decision:
    """Whether a frame is uploaded, and how likely that was."""

    is_hard: bool
    """The threshold policy asked for it."""
    is_explored: bool
    """It was not, and is uploaded all the same."""
    prob_upload: float
    """Probability of an upload, given the frame."""

    @property
    def upload(self) -> bool:
        """The frame goes to the cloud."""
        return self.is_hard or self.is_explored


class Explorer:
    """Draws decisions; frame i's depends only on the seed, i, and its probability of being hard.

    Args:
        config: Exploration and clipping.
        seed: Of the draws.
    """

    def __init__(self, config: ExploreConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    def decide(self, hard_prob: float, frame_index: int) -> Decision:
        """Decides on a frame.

        Args:
            hard_prob: What the threshold policy gives it; 0 or 1 unless the policy itself draws.
            frame_index: Number of the frame in its stream.
        """
        draws = self._draws(frame_index)
        explore = self._config.explore_frac
        is_hard = bool(draws[0] < hard_prob)
        is_explored = not is_hard and bool(draws[1] < explore)
        return Decision(is_hard, is_explored, hard_prob + (1.0 - hard_prob) * explore)

    def lot(self, frame_index: int) -> float:
        """What a frame draws in [0,1): it is hard if that is below its probability."""
        return float(self._draws(frame_index)[0])

    def _draws(self, frame_index: int) -> np.ndarray:
        return np.random.default_rng((self._seed, _EXPLORE_STREAM, frame_index)).random(2)

    def importance(self, decision: Decision) -> float:
        """Weight 1/p of an uploaded frame, clipped: sums over uploads weighted so estimate sums over all frames."""
        return min(1.0 / decision.prob_upload, self._config.max_importance)
