"""The edge device: model and miner, their output for a frame, and installation of new versions.

Shapes: C classes, F pooled features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edgeai.collab.config.policy import MinerConfig
from edgeai.collab.edge.node import EdgeOutput
from edgeai.collab.learning.version import Version
from edgeai.collab.models.seg_model import SegModel, trainable_net
from edgeai.collab.models.state import copy_state
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import confidence
from edgeai.collab.wire.model_push import apply_push


class EdgeDevice:
    """An edge model and its miner. A new version is installed between two passes, never during one.

    Args:
        model: Edge model; new versions change it in place.
        config: Miner settings.
        size_px: Height and width of the frames.
        seed: Seed of the miner's initial weights.
    """

    def __init__(self, model: SegModel, config: MinerConfig, size_px: tuple[int, int], seed: int) -> None:
        self.model = model
        _, pooled = model.features(np.zeros((*size_px, 3), np.uint8))
        self.miner = Miner(pooled.numel(), config, seed)
        self.version = 0
        self.num_swaps = 0

    def run(self, image: np.ndarray) -> EdgeOutput:
        """Run the current version on a frame [H,W,3]."""
        logits, pooled = self.model.features(image)
        probs = logits.softmax(0)
        scores = confidence(probs)
        mined = self.miner.score(miner_input(pooled, scores))
        return EdgeOutput(logits.argmax(0).byte().cpu().numpy(), probs, scores, mined, self.version)

    def apply(self, net_push: bytes, miner_push: bytes, version: int) -> None:
        """Install an update from the cloud; an empty push leaves its part unchanged.

        Raises:
            EdgeAIError: A push is damaged, or is for another version.
        """
        if version <= self.version:  # out of order; impossible on a link that keeps the order
            return
        if net_push:
            net = trainable_net(self.model)
            net.load_state_dict(apply_push(net_push, copy_state(net.state_dict())))
        if miner_push:
            self.miner.load_state_dict(apply_push(miner_push, copy_state(self.miner.state_dict())))
        self._swapped(version)

    def load(self, version: Version) -> None:
        """Install a version that was trained on the device.

        Raises:
            UsageError: The model is frozen.
        """
        trainable_net(self.model).load_state_dict(dict(version.net))
        self.miner.load_state_dict(dict(version.miner))
        self._swapped(version.number)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the model's weights; empty if the model is frozen."""
        net = self.model.trainable
        return {} if net is None else copy_state(net.state_dict())

    @torch.no_grad()
    def labels_with(self, state: Mapping[str, Tensor], images: Tensor) -> np.ndarray:
        """Return labels [B,H,W] of images [B,H,W,3] for other weights; the device keeps its own.

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
