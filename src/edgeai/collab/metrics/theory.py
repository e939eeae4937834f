"""What holds for any edge model, cloud model and miner, as plain functions that a run's records can be held against.

With h(x) = 1 where the edge's answer stands and 0 where the cloud's does, losses l_f (edge) and l_c (cloud) in [0,1]:

    risk split       R_system = E[l_c] + E[h (l_f - l_c)]       better than the edge alone iff E[(1-h)(l_f - l_c)] > 0
    upload rate      sup over thresholds |CUR_n - CUR| <= sqrt(ln(2/eta) / (2n)) with probability 1 - eta (DKW)
    pseudo-labels    err(f, truth) <= err(f, cloud) + err(cloud, truth)     zero-one loss a pixel
    latency          soft  E[h] d1 + (1 - E[h]) d0              hard  (1 - CUR) d1 + CUR d0
                     d1 edge alone, d0 by way of the cloud (the edge's pass included)

Source: the soft latency is LAECIPS (arXiv 2404.10498) after AppealNet (arXiv 2105.04104); the rest is ours, from
textbook facts. BWT and FWT follow the ianvs lifelong benchmark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RiskSplit:
    """Mean losses of the same frames."""

    num: int
    system: float
    """Of the answers that were given."""
    edge: float
    """Had every frame stayed at the edge."""
    cloud: float
    """Had every frame been answered by the cloud."""
    kept_gap: float
    """E[h (l_f - l_c)]: what staying cost; negative where it paid."""

    @property
    def residual(self) -> float:
        """0 up to rounding, or the records do not fit together: system - (cloud + kept_gap)."""
        return self.system - (self.cloud + self.kept_gap)

    @property
    def gain(self) -> float:
        """E[(1-h)(l_f - l_c)] = edge - system: what the uploads brought; positive iff the system beats the edge."""
        return self.edge - self.cloud - self.kept_gap


class RiskSum:
    """Adds up the risk split frame by frame in constant memory."""

    def __init__(self) -> None:
        self._num = 0
        self._sums = np.zeros(4)

    def add(self, *, stayed: bool, loss_system: float, loss_edge: float, loss_cloud: float) -> None:
        """Adds a frame.

        Args:
            stayed: The edge's answer stood (h = 1).
            loss_system: Of the answer that was given.
            loss_edge: Of the edge's answer.
            loss_cloud: Of the cloud's, which must be known even where it was not asked for.
        """
        self._num += 1
        gap = loss_edge - loss_cloud if stayed else 0.0
        self._sums += (loss_system, loss_edge, loss_cloud, gap)

    def split(self) -> RiskSplit | None:
        """The means so far; None before the first frame."""
        if not self._num:
            return None
        system, edge, cloud, gap = (float(total) / self._num for total in self._sums)
        return RiskSplit(self._num, system, edge, cloud, gap)


def upload_rate_bound(num_frames: int, *, confidence: float = 0.95) -> float:
    """Largest deviation of an observed upload rate from the true one, at all thresholds at once.

    Dvoretzky-Kiefer-Wolfowitz with Massart's constant; for independent frames and scores that do not depend on them.

    Args:
        num_frames: Frames n that were observed.
        confidence: 1 - eta.
    """
    return math.sqrt(math.log(2.0 / (1.0 - confidence)) / (2.0 * num_frames))


def soft_latency_s(mean_score: float, *, edge_s: float, cloud_s: float) -> float:
    """Expected latency if h were the probability of staying at the edge (LAECIPS)."""
    return cloud_s + (edge_s - cloud_s) * mean_score


def hard_latency_s(upload_rate: float, *, edge_s: float, cloud_s: float) -> float:
    """Expected latency of the decisions that were made (ours)."""
    return (1.0 - upload_rate) * edge_s + upload_rate * cloud_s


@dataclass(frozen=True)
class Transfer:
    """What learning one task does to the others, in points of the accuracy that was given."""

    bwt: float | None
    """Backward: mean change of a task after it was learned; negative is forgetting. None with fewer than two tasks."""
    fwt: float | None
    """Forward: mean gain on a task just before it is learned, over the untouched model. None likewise."""


def transfer(accuracy: NDArray[np.float64]) -> Transfer:
    """Backward and forward transfer.

    Args:
        accuracy: Row r is the model after r tasks (row 0: before any), column j the accuracy on task j, which is
            learned between rows j and j + 1 [T+1,T].

    Raises:
        ValueError: Not one row more than columns.
    """
    rows, num_tasks = accuracy.shape
    if rows != num_tasks + 1:
        raise ValueError(f"{num_tasks} tasks need {num_tasks + 1} rows, not {rows}")
    if num_tasks < 2:
        return Transfer(None, None)
    learned = accuracy[1:]  # [T,T], row r: after task r
    backward = [learned[r, j] - learned[j, j] for j in range(num_tasks) for r in range(j + 1, num_tasks)]
    forward = [accuracy[j, j] - accuracy[0, j] for j in range(1, num_tasks)]
    return Transfer(float(np.mean(backward)), float(np.mean(forward)))
