"""CEMA: reliable and informative frames adapt the edge's BatchNorm; the hardest frames are excluded."""

from __future__ import annotations

import numpy as np

from edgeai.collab.config.policy import QuantileThreshold
from edgeai.collab.policy.thresholds import QuantilePolicy
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.strategy import Decision, EdgeView
from edgeai.collab.strategies.trained import Trained

ENTROPY_MIN, ENTROPY_MAX = 0.02, 0.4
"""Bounds of the entropy over ln C."""
SHRINK = 0.6
"""Factor c of the upper bound."""
WARM_UP = 16
"""Number of frames whose mean entropy is the reference for later ones."""
MEMORY = 0.9
"""Momentum of the running mean prediction."""


class Cema(Trained):
    """cema: upload frames that are neither too uncertain nor too certain and unlike earlier ones; adapt BatchNorm only.

    Paper: CEMA, arXiv 2402.17316, and its code. Rule: with E the entropy over ln C, upload iff E_min < E < E_max(t),
    E_max(t) = c * 0.4 * (mean E so far / mean E at warm-up), c = 0.6, and the prediction is unlike its running mean
    (memory 0.9, cosine); the cloud distills into the BatchNorm weights, which are pushed to the edge. The opposite of
    hard-input mining: the hardest frames are not uploaded. Differs: on whole label maps the cosine to the running mean
    is always near 1, so instead of a fixed cosine the least similar frames are uploaded, at the run's upload_rate; the
    teacher is not adapted; the loss is weighted cross-entropy with the shared Adam optimizer instead of 3 KL + 3 CE
    with SGD; warm-up is 16 frames.
    """

    def __init__(self, context: StrategyContext) -> None:
        cfg = context.cfg
        update = cfg.update.model_copy(update={"parameters": "batchnorm", "push": "bn"})
        self._trainer = context.trainer(update, cfg.miner.model_copy(update={"steps": 0}))
        self._policy = QuantilePolicy(QuantileThreshold(rate=min(0.999, max(0.001, cfg.upload_rate))))
        self._rng = np.random.default_rng((cfg.seed, 0xCE4A))
        self._mean: np.ndarray | None = None
        self._num_frames = 0
        self._entropy_sum = 0.0
        self._warm_entropy = 0.0

    @property
    def entropy_max(self) -> float:
        """E_max(t); 0.4 until the end of the warm-up."""
        if not self._warm_entropy:
            return ENTROPY_MAX
        return SHRINK * ENTROPY_MAX * self._entropy_sum / self._num_frames / self._warm_entropy

    def decide(self, view: EdgeView) -> Decision:
        """Exclude unreliable frames, then redundant ones."""
        entropy = 1.0 - view.edge.scores["entropy"]
        self._num_frames += 1
        self._entropy_sum += entropy
        if self._num_frames == WARM_UP:
            self._warm_entropy = self._entropy_sum / WARM_UP
        similarity = self._similarity(view.edge.probs.mean((1, 2)).cpu().numpy())
        reliable = ENTROPY_MIN < entropy < self.entropy_max
        prob = self._policy.hard_prob(similarity) if reliable else 0.0
        upload = bool(self._rng.random() < prob)
        self._policy.on_decision(similarity, upload=upload)
        return Decision(upload=upload, score=similarity, for_answer=False, prob_upload=prob)

    def _similarity(self, prediction: np.ndarray) -> float:
        """Return the cosine of the mean prediction [C] to its running mean, in [0,1]."""
        if self._mean is None:
            self._mean = prediction
            return 0.0
        cosine = float(prediction @ self._mean / (np.linalg.norm(prediction) * np.linalg.norm(self._mean)))
        self._mean = MEMORY * self._mean + (1 - MEMORY) * prediction
        return min(1.0, max(0.0, cosine))
