"""Backward and forward transfer: the edge model after each drift segment, evaluated on frames of all segments.

Evaluated after the run, when frames of all segments are known. A few frames of each segment are stored, and the weights
at its end, for at most `MAX_SEGMENTS` segments. The frames may have been used in training, with the cloud's labels;
they are evaluated with the ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.metrics.confusion import Labels, confusion, seg_metrics
from edgeai.collab.metrics.risk_bounds import Transfer, transfer
from edgeai.collab.models.inputs import stack_images
from edgeai.collab.streams.stream import Frame

MAX_SEGMENTS = 16
EVERY = 5
"""Every fifth frame of a segment is stored, up to the configured number."""


class TransferProbe:
    """Collects frames and weights during a run.

    Args:
        edge: Edge device whose model is evaluated.
        num_frames: Number of frames stored per segment; 0 disables the probe.
    """

    def __init__(self, edge: EdgeDevice, num_frames: int) -> None:
        self._edge, self._num_frames = edge, num_frames
        self._kept: dict[str, list[tuple[np.ndarray, Labels]]] = {}
        self._states: list[Mapping[str, Tensor]] = []
        self._num_seen = 0
        self._segment: str | None = None

    def see(self, frame: Frame) -> None:
        """Process a captured frame."""
        if not self._num_frames or self._edge.model.trainable is None:
            return
        if frame.segment != self._segment:
            self._segment, self._num_seen = frame.segment, 0
            if frame.segment not in self._kept and len(self._kept) < MAX_SEGMENTS:
                self._states.append(self._edge.state())  # weights before this segment
                self._kept[frame.segment] = []
        kept = self._kept.get(frame.segment)
        if (
            kept is not None
            and frame.labels is not None
            and len(kept) < self._num_frames
            and not self._num_seen % EVERY
        ):
            kept.append((frame.image, frame.labels))
        self._num_seen += 1

    def transfer(self) -> Transfer:
        """Return BWT and FWT in mIoU; None with fewer than two labeled segments."""
        places = [place for place, kept in enumerate(self._kept.values()) if kept]
        if len(places) < 2:
            return Transfer(None, None)
        tasks = [list(self._kept.values())[place] for place in places]
        states = [self._states[place] for place in places] + [self._edge.state()]
        return transfer(np.array([[self._miou(state, task) for task in tasks] for state in states]))

    def _miou(self, state: Mapping[str, Tensor], task: list[tuple[np.ndarray, Labels]]) -> float:
        images = stack_images([image for image, _ in task], "cpu")
        predictions = self._edge.labels_with(state, images)
        num_classes = len(self._edge.model.classes)
        counts = sum(
            confusion(truth, prediction, num_classes) for (_, truth), prediction in zip(task, predictions, strict=True)
        )
        metrics = seg_metrics(np.asarray(counts))
        return 0.0 if metrics is None else metrics.miou
