"""The edge: its model and miner as they are now, what they say of a frame, and how new versions come in.

Shapes: C classes, F pooled features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeai.collab.config.policy import MinerConfig, ScoreKind
from edgeai.collab.learning.version import Version, copy_state, trainable_net
from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import confidence
from edgeai.collab.wire.model_push import apply_push


@dataclass(frozen=True)
class EdgeOutput:
    """What one pass of the edge gives."""

    labels: Labels
    """[H,W]."""
    probs: Tensor
    """[C,H,W]."""
    scores: Mapping[ScoreKind, float]
    """The classic confidence scores."""
    mined: float
    """h: what the trained miner says."""
    version: int


class EdgeDevice:
    """An edge model with a miner on top. A new version takes their place between two passes, never within one.

    Args:
        model: Changed in place by new versions.
        config: Of the miner.
        size_px: Height and width of frames.
        seed: Of the miner's first weights.
    """

    def __init__(self, model: SegModel, config: MinerConfig, size_px: tuple[int, int], seed: int) -> None:
        self.model = model
        _, pooled = model.features(np.zeros((*size_px, 3), np.uint8))
        self.miner = Miner(pooled.numel(), config, seed)
        self.version = 0
        self.num_swaps = 0

    def run(self, image: np.ndarray) -> EdgeOutput:
        """Looks at a frame [H,W,3] with the version that is in place now."""
        logits, pooled = self.model.features(image)
        probs = logits.softmax(0)
        scores = confidence(probs)
        mined = self.miner.score(miner_input(pooled, scores))
        return EdgeOutput(logits.argmax(0).byte().cpu().numpy(), probs, scores, mined, self.version)

    def apply(self, net_push: bytes, miner_push: bytes, version: int) -> None:
        """Takes in an update from the cloud; an empty push leaves its part as it is.

        Raises:
            EdgeAIError: A push is damaged, or is for another version.
        """
        if version <= self.version:  # overtaken; cannot happen on a link that keeps the order
            return
        if net_push:
            net = trainable_net(self.model)
            net.load_state_dict(apply_push(net_push, copy_state(net.state_dict())))
        if miner_push:
            self.miner.load_state_dict(apply_push(miner_push, copy_state(self.miner.state_dict())))
        self._swapped(version)

    def load(self, version: Version) -> None:
        """Takes in a version that was trained at the edge itself."""
        version.load_into(self.model, self.miner)
        self._swapped(version.number)

    def state(self) -> dict[str, Tensor]:
        """A copy of the model's weights; empty if it is frozen."""
        net = self.model.trainable
        return {} if net is None else copy_state(net.state_dict())

    @torch.no_grad()
    def labels_with(self, state: Mapping[str, Tensor], images: Tensor) -> np.ndarray:
        """Labels [B,H,W] of images [B,H,W,3] by other weights; the device keeps its own.

        Raises:
            UsageError: The model is frozen.
        """
        net, own = trainable_net(self.model), self.state()
        net.load_state_dict(dict(state))
        labels = self.model.forward_batch(images.to(next(net.parameters()).device))[0].argmax(1).byte().cpu().numpy()
        net.load_state_dict(own)
        return np.asarray(labels)

    def _swapped(self, version: int) -> None:
        self.version = version
        self.num_swaps += 1
