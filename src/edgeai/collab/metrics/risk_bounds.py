"""Identities and bounds that hold for any edge model, cloud model and miner.

With h(x) = 1 where the edge's answer is final and 0 where the cloud's is, losses l_f (edge) and l_c (cloud) in [0,1]:

    risk split       R_system = E[l_c] + E[h (l_f - l_c)]       better than the edge alone iff E[(1-h)(l_f - l_c)] > 0
    upload rate      sup over thresholds |CUR_n - CUR| <= sqrt(ln(2/eta) / (2n)) with probability 1 - eta (DKW)
    pseudo-labels    err(f, truth) <= err(f, cloud) + err(cloud, truth)     zero-one loss per pixel
    latency          soft  E[h] d1 + (1 - E[h]) d0              hard  (1 - CUR) d1 + CUR d0
                     d1 edge alone, d0 through the cloud (including the edge's pass)

Source: the soft latency is LAECIPS (arXiv 2404.10498) after AppealNet (arXiv 2105.04104); the rest is ours, from
textbook facts. BWT and FWT follow the ianvs lifelong benchmark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeai.core.report.fields import About, about


@dataclass(frozen=True)
class RiskSplit:
    """Mean losses over the same frames."""

    COMPUTED: ClassVar = {
        "residual": About("residual", meaning="system - (cloud + kept gap): 0 up to rounding"),
        "gain": About("gain of uploading", meaning="E[(1-h)(l_f - l_c)], positive if uploads reduced the loss"),
    }

    num: int = field(metadata=about("frames"))
    system: float = field(metadata=about("system", meaning="mean loss of the answers shown"))
    edge: float = field(metadata=about("edge", meaning="mean loss if every frame had stayed at the edge"))
    cloud: float = field(metadata=about("cloud", meaning="mean loss if the cloud had answered every frame"))
    kept_gap: float = field(metadata=about("kept gap", meaning="E[h (l_f - l_c)], the cost of frames kept at the edge"))

    @property
    def residual(self) -> float:
        """System - (cloud + kept_gap): 0 up to rounding if the records are consistent."""
        return self.system - (self.cloud + self.kept_gap)

    @property
    def gain(self) -> float:
        """E[(1-h)(l_f - l_c)] = edge - system: the gain from uploads; positive iff the system beats the edge."""
        return self.edge - self.cloud - self.kept_gap


class RiskSum:
    """Accumulates the risk split frame by frame in constant memory."""

    def __init__(self) -> None:
        self._num = 0
        self._sums = np.zeros(4)

    def add(self, *, stayed: bool, loss_system: float, loss_edge: float, loss_cloud: float) -> None:
        """Add a frame.

        Args:
            stayed: True if the edge's answer is final (h = 1).
            loss_system: Loss of the final answer.
            loss_edge: Loss of the edge's answer.
            loss_cloud: Loss of the cloud's answer, also for frames that were not uploaded.
        """
        self._num += 1
        gap = loss_edge - loss_cloud if stayed else 0.0
        self._sums += (loss_system, loss_edge, loss_cloud, gap)

    def split(self) -> RiskSplit | None:
        """Return the means so far; None before the first frame."""
        if not self._num:
            return None
        system, edge, cloud, gap = (float(total) / self._num for total in self._sums)
        return RiskSplit(self._num, system, edge, cloud, gap)


def upload_rate_bound(num_frames: int, *, confidence: float = 0.95) -> float:
    """Return the maximum deviation of the observed upload rate from the true one, over all thresholds.

    Dvoretzky-Kiefer-Wolfowitz with Massart's constant; for independent frames and scores that do not depend on them.

    Args:
        num_frames: Number of observed frames n.
        confidence: Confidence level 1 - eta.
    """
    return math.sqrt(math.log(2.0 / (1.0 - confidence)) / (2.0 * num_frames))


def soft_latency_s(mean_score: float, *, edge_s: float, cloud_s: float) -> float:
    """Return the expected latency if h is the probability of staying at the edge (LAECIPS)."""
    return cloud_s + (edge_s - cloud_s) * mean_score


def hard_latency_s(upload_rate: float, *, edge_s: float, cloud_s: float) -> float:
    """Return the expected latency of the actual decisions (ours)."""
    return (1.0 - upload_rate) * edge_s + upload_rate * cloud_s


@dataclass(frozen=True)
class Transfer:
    """Effect of learning one task on the others, in the unit of the given accuracy."""

    bwt: float | None = field(
        metadata=about(
            "BWT",
            unit="1",
            best="max",
            meaning="backward transfer: mean change of a segment's mIoU after it was learned; negative is forgetting",
        )
    )
    """None with fewer than two tasks."""
    fwt: float | None = field(
        metadata=about(
            "FWT",
            unit="1",
            best="max",
            meaning="forward transfer: mean mIoU gain on a segment before it is learned, over the initial model",
        )
    )
    """None with fewer than two tasks."""


def transfer(accuracy: NDArray[np.float64]) -> Transfer:
    """Return backward and forward transfer.

    Args:
        accuracy: Accuracy [T+1,T] of the model after r tasks (row r, row 0: before any) on task j (column j), which is
            learned between rows j and j + 1.

    Raises:
        ValueError: The number of rows is not the number of columns plus one.
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
