"""Stream, edge model and cloud of a run, shared by all strategies of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeai.collab.cloud.answer_store import AnswerStore
from edgeai.collab.cloud.models import CloudModels
from edgeai.collab.config.models import CloudConfig, EdgeCopy, StreetNetModel
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.models.build import ModelConfig, build_model, build_semantics, fresh_street_net
from edgeai.collab.models.masks.build import build_masks
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.streams.build import build_stream
from edgeai.collab.streams.stream import Stream
from edgeai.collab.wire.codec import encode_image
from edgeai.core.errors import UsageError


@dataclass
class Testbed:
    """Stream, edge model and cloud, in which any number of strategies can be run in turn.

    Args:
        cfg: Config of stream, edge and cloud.
        device: Torch device.
        max_bytes: Memory for the cloud's answers, which are computed once for all strategies.
    """

    __test__ = False  # not a test class, despite its name

    cfg: CollabRunConfig
    device: str
    max_bytes: int = 64 << 20
    stream: Stream = field(init=False)
    edge: SegModel = field(init=False)
    """Edge model before any update; never modified."""

    def __post_init__(self) -> None:
        self.stream = build_stream(self.cfg.stream, self.cfg.seed)
        self.edge = self._model(self.cfg.edge.model)
        self._clouds: dict[str, AnswerStore] = {}

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.stream.height, self.stream.width

    def cloud(self, config: CloudConfig) -> AnswerStore:
        """Return the cloud that a config describes; built and checked on one frame at the first call."""
        key = config.model_dump_json()
        if key not in self._clouds:
            semantics = self._semantics(config)
            models = CloudModels(semantics, build_masks(config.masks, self.device), config.fusion)
            models.answer(encode_image(self.first_image(), quality=90), self.size_px)  # fails early
            self._clouds[key] = AnswerStore(models.answer, max_bytes=self.max_bytes)
        return self._clouds[key]

    def first_image(self) -> np.ndarray:
        """Return the first frame [H,W,3].

        Raises:
            UsageError: The stream has no readable frame.
        """
        frame = next(self.stream.frames(), None)
        if frame is None:
            raise UsageError("the stream has no frame that can be read", hint="check the files in source.path")
        return frame.image

    def _semantics(self, config: CloudConfig) -> SegModel:
        if isinstance(config.semantics, EdgeCopy):
            return build_semantics(config.semantics, self.edge, self.stream.classes, self.device, size_px=self.size_px)
        return self._model(config.semantics)

    def _model(self, config: ModelConfig) -> SegModel:
        if isinstance(config, StreetNetModel) and config.weights == "fresh":
            return fresh_street_net(self.stream.classes, self.device, self.cfg.seed)
        return build_model(config, self.stream.classes, self.device, size_px=self.size_px)
