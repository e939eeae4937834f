"""What the cloud says about a frame: semantics, masks and their fusion, and a store that asks no frame twice.

Shapes: H x W pixels.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeai.collab.cloud.fusion import fuse
from edgeai.collab.config.models import FusionConfig
from edgeai.collab.metrics.confusion import Labels
from edgeai.collab.models.masks import MaskSource
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.wire.codec import decode_image


@dataclass(frozen=True)
class CloudAnswer:
    """The cloud's view of one frame, packed."""

    packed: bytes
    height: int
    width: int
    num_masks: int
    """Proposed."""
    num_painted: int
    """Of those, painted."""

    @property
    def labels(self) -> Labels:
        """What is answered [H,W]."""
        return self._planes()[0]

    @property
    def weight(self) -> NDArray[np.float32]:
        """How far training may rely on each pixel, to 1/255 [H,W]."""
        return self._planes()[1].astype(np.float32) / 255

    @property
    def semantics(self) -> Labels:
        """Labels before any mask was painted [H,W]."""
        return self._planes()[2]

    def _planes(self) -> NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(3, self.height, self.width)


Answerer = Callable[[bytes, tuple[int, int]], CloudAnswer]
"""From a frame's JPEG file and its height and width."""


class CloudModels:
    """Semantics, masks and fusion. An answer depends on the picture alone: these models never change in a run.

    Args:
        semantics: Names classes.
        masks: Finds regions.
        fusion: How they meet.
    """

    def __init__(self, semantics: SegModel, masks: MaskSource, fusion: FusionConfig) -> None:
        self.semantics, self.masks, self.fusion = semantics, masks, fusion

    def answer(self, jpeg: bytes, size_px: tuple[int, int]) -> CloudAnswer:
        """Works out an answer.

        Args:
            jpeg: The frame as it came up the link.
            size_px: Its height and width at the edge.

        Raises:
            EdgeAIError: It is no image, or a user's mask source failed.
        """
        image = decode_image(jpeg, size_px)
        logits = self.semantics.logits(image)
        masks = self.masks.propose(image, logits)
        config = self.fusion
        fused = fuse(logits, masks, purity_min=config.purity_min, iou_min=config.iou_min, vote=config.vote)
        own = logits.argmax(0).byte().cpu().numpy()
        planes = np.stack([fused.labels, np.rint(fused.weight * 255).astype(np.uint8), own])
        return CloudAnswer(zlib.compress(planes.tobytes(), 1), *size_px, len(masks), fused.num_painted)


class AnswerStore:
    """Remembers answers by picture, so that many strategies can be played for the price of one.

    Args:
        answerer: Works out what is not known yet.
        max_bytes: Memory for answers; the one asked for longest ago goes first.
    """

    def __init__(self, answerer: Answerer, *, max_bytes: int = 64 << 20) -> None:
        self.answerer = answerer
        self._max_bytes = max_bytes
        self._known: OrderedDict[bytes, CloudAnswer] = OrderedDict()
        self.num_bytes = 0
        self.num_computed = 0

    def __call__(self, jpeg: bytes, size_px: tuple[int, int]) -> CloudAnswer:
        """The answer of `CloudModels.answer`."""
        key = hashlib.sha256(jpeg + b"%d %d" % size_px).digest()
        answer = self._known.pop(key, None)
        if answer is None:
            answer = self.answerer(jpeg, size_px)
            self.num_computed += 1
            self.num_bytes += len(answer.packed)
        self._known[key] = answer
        while self.num_bytes > self._max_bytes and len(self._known) > 1:
            self.num_bytes -= len(self._known.popitem(last=False)[1].packed)
        return answer
