"""BatchNorm adaptation at the edge, without cloud and labels."""

from __future__ import annotations

import copy
from collections import deque

import numpy as np

from edgeai.collab.learning.batchnorm import BatchNormPrior, refresh_batchnorm
from edgeai.collab.learning.trainer import UpdateResult
from edgeai.collab.learning.version import Version, trainable_net
from edgeai.collab.models.inputs import stack_images
from edgeai.collab.strategies.parts import Parts
from edgeai.collab.strategies.strategy import EdgeOnly, EdgeView, Verdict

_BATCH = 8


class BnAdapt(EdgeOnly):
    """bn-adapt: the edge measures its BatchNorm statistics anew on its last frames; no byte is sent.

    Paper: adaptive BatchNorm, arXiv 1603.04779, with the prior of arXiv 2006.16971. Rule: statistics of the newest
    frames, mixed with those of training as if these were refresh_prior frames, replace what the edge has. The baseline
    that shows how much of a gain is light alone. Constants: the run's update.refresh_frames, refresh_prior and
    every_frames. Differs: done again and again along a stream; it takes as many of the edge's passes as there are
    frames.
    """

    trains_at = "edge"

    def __init__(self, parts: Parts) -> None:
        self._config = parts.cfg.update
        self._pass_s = parts.pass_s
        self._model = copy.deepcopy(parts.edge.model)
        self._net = trainable_net(self._model)
        self._device = next(self._net.parameters()).device
        self._prior = BatchNormPrior.of(self._net, self._config.refresh_prior)
        self._miner = parts.edge.miner.state_dict()
        self._frames: deque[np.ndarray] = deque(maxlen=self._config.refresh_frames)
        self._num_new = 0
        self._number = 0

    def decide(self, view: EdgeView) -> Verdict:
        """Remembers the frame; it stays."""
        self._frames.append(view.image)
        self._num_new += 1
        return Verdict()

    def due(self, now_s: float) -> bool:
        """Every so many frames."""
        return self._num_new >= self._config.every_frames

    def update(self, now_s: float) -> tuple[UpdateResult, Version]:
        """Measures the statistics."""
        self._num_new = 0
        frames = list(self._frames)
        batches = [
            stack_images(frames[begin : begin + _BATCH], self._device) for begin in range(0, len(frames), _BATCH)
        ]
        changed = refresh_batchnorm(self._net, self._model.forward_batch, batches, prior=self._prior) > 0
        self._number += changed
        version = Version.of(self._number, self._net.state_dict(), self._miner)
        result = UpdateResult(
            version=self._number,
            accepted=changed,
            miner_accepted=False,
            miou_before=None,
            miou_after=None,
            num_steps=0,
            compute_s=len(frames) * self._pass_s,
            net_push=b"",
            miner_push=b"",
        )
        return result, version
