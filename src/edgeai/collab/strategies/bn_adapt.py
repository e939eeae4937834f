"""BatchNorm adaptation at the edge, without cloud or labels."""

from __future__ import annotations

import copy
from collections import deque

import numpy as np

from edgeai.collab.learning.batchnorm import BatchNormPrior, refresh_batchnorm
from edgeai.collab.learning.version import UpdateResult, Version
from edgeai.collab.models.inputs import stack_images
from edgeai.collab.models.seg_model import trainable_net
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.strategy import Decision, EdgeView, Strategy

_BATCH = 8


class BnAdapt(Strategy):
    """bn-adapt: the edge recomputes its BatchNorm statistics on its latest frames; nothing is uploaded.

    Paper: adaptive BatchNorm, arXiv 1603.04779, with the prior of arXiv 2006.16971. Rule: the edge's statistics are
    replaced by those of the latest frames, mixed with the training statistics weighted as refresh_prior frames. The
    baseline shows how much of a gain is due to lighting alone. Constants: the run's update.refresh_frames,
    refresh_prior and every_frames. Differs: repeated along a stream; an update takes one edge pass per frame.
    """

    trains_at = "edge"

    def __init__(self, context: StrategyContext) -> None:
        self._config = context.cfg.update
        self._pass_s = context.pass_s
        self._model = copy.deepcopy(context.edge.model)
        self._net = trainable_net(self._model)
        self._device = next(self._net.parameters()).device
        self._prior = BatchNormPrior.of(self._net, self._config.refresh_prior)
        self._miner = context.edge.miner.state_dict()
        self._frames: deque[np.ndarray] = deque(maxlen=self._config.refresh_frames)
        self._num_new = 0
        self._number = 0

    def decide(self, view: EdgeView) -> Decision:
        """Store the frame; never upload."""
        self._frames.append(view.image)
        self._num_new += 1
        return Decision()

    def due(self, now_s: float) -> bool:
        """Return whether every_frames new frames have arrived."""
        return self._num_new >= self._config.every_frames

    def update(self, now_s: float) -> UpdateResult:
        """Recompute the statistics."""
        self._num_new = 0
        frames = list(self._frames)
        batches = [
            stack_images(frames[begin : begin + _BATCH], self._device) for begin in range(0, len(frames), _BATCH)
        ]
        changed = refresh_batchnorm(self._net, self._model.forward_batch, batches, prior=self._prior) > 0
        self._number += changed
        return UpdateResult(
            version=Version.of(self._number, self._net.state_dict(), self._miner),
            accepted=changed,
            miner_accepted=False,
            miou_before=None,
            miou_after=None,
            num_steps=0,
            compute_s=len(frames) * self._pass_s,
            net_push=b"",
            miner_push=b"",
        )
