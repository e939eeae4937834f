"""CEMA: frames that are reliable and informative teach the edge's BatchNorm; the hardest ones are left out."""

from __future__ import annotations

import numpy as np

from edgeai.collab.config.policy import QuantileThreshold
from edgeai.collab.policy.thresholds import QuantilePolicy
from edgeai.collab.strategies.parts import Parts
from edgeai.collab.strategies.strategy import EdgeView, Verdict
from edgeai.collab.strategies.taught import Taught

ENTROPY_MIN, ENTROPY_MAX = 0.02, 0.4
"""Of the entropy over ln C."""
SHRINK = 0.6
"""c."""
WARM_UP = 16
"""Frames whose mean entropy the later ones are compared with."""
MEMORY = 0.9
"""Of the running mean prediction."""


class Cema(Taught):
    """cema: upload what is neither too uncertain nor too certain and unlike what was seen; adapt BatchNorm only.

    Paper: CEMA, arXiv 2402.17316, and its code. Rule: with E the entropy over ln C, upload iff E_min < E < E_max(t),
    E_max(t) = c * 0.4 * (mean E so far / mean E at warm-up), c = 0.6, and the prediction is unlike its running mean
    (memory 0.9, cosine); the cloud distils into the BatchNorm weights, which travel back. The opposite of hard-input
    mining: the hardest frames stay. Differs: on whole label maps the cosine to the running mean is always near 1, so in
    place of a fixed cosine the least similar frames go up, at the run's upload_rate; the teacher is not adapted; the
    loss is weighted cross-entropy and Adam the shared optimiser instead of 3 KL + 3 CE with SGD; warm-up is 16 frames.
    """

    def __init__(self, parts: Parts) -> None:
        cfg = parts.cfg
        update = cfg.update.model_copy(update={"parameters": "batchnorm", "push": "bn"})
        self._updater = parts.updater(update, cfg.miner.model_copy(update={"steps": 0}))
        self._policy = QuantilePolicy(QuantileThreshold(rate=min(0.999, max(0.001, cfg.upload_rate))))
        self._lots = np.random.default_rng((cfg.seed, 0xCE4A))
        self._mean: np.ndarray | None = None
        self._num_frames = 0
        self._entropy_sum = 0.0
        self._warm_entropy = 0.0

    @property
    def entropy_max(self) -> float:
        """E_max(t); before the end of the warm-up 0.4."""
        if not self._warm_entropy:
            return ENTROPY_MAX
        return SHRINK * ENTROPY_MAX * self._entropy_sum / self._num_frames / self._warm_entropy

    def decide(self, view: EdgeView) -> Verdict:
        """Leaves out what is unreliable, then what is redundant."""
        entropy = 1.0 - view.edge.scores["entropy"]
        self._num_frames += 1
        self._entropy_sum += entropy
        if self._num_frames == WARM_UP:
            self._warm_entropy = self._entropy_sum / WARM_UP
        similarity = self._similarity(view.edge.probs.mean((1, 2)).cpu().numpy())
        reliable = ENTROPY_MIN < entropy < self.entropy_max
        prob = self._policy.hard_prob(similarity) if reliable else 0.0
        upload = bool(self._lots.random() < prob)
        self._policy.on_decision(similarity, upload=upload)
        return Verdict(upload=upload, score=similarity, for_answer=False, prob_upload=prob)

    def _similarity(self, prediction: np.ndarray) -> float:
        """Cosine of the mean prediction [C] to its running mean, in [0,1]."""
        if self._mean is None:
            self._mean = prediction
            return 0.0
        cosine = float(prediction @ self._mean / (np.linalg.norm(prediction) * np.linalg.norm(self._mean)))
        self._mean = MEMORY * self._mean + (1 - MEMORY) * prediction
        return min(1.0, max(0.0, cosine))
