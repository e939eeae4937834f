"""Cloud answers outside virtual time: for frames that were not uploaded, and for the oracle."""

from __future__ import annotations

from edgeai.collab.cloud.answer import Answerer, CloudAnswer
from edgeai.collab.metrics.confusion import confusion, frame_loss
from edgeai.collab.sim.frame_state import FrameState
from edgeai.collab.wire.codec import encode_image


class ShadowCloud:
    """Answers frames at full quality without taking virtual time.

    Args:
        answerer: Computes the answers.
        quality: JPEG quality.
        num_classes: Number of classes of the stream.
    """

    def __init__(self, answerer: Answerer, quality: int, num_classes: int) -> None:
        self._answerer, self._quality, self._num_classes = answerer, quality, num_classes

    def answer(self, state: FrameState) -> CloudAnswer:
        """Return the cloud's answer to a frame.

        Raises:
            EdgeAIError: A user-defined mask source failed.
        """
        image = state.frame.image
        return self._answerer(encode_image(image, quality=self._quality), (image.shape[0], image.shape[1]))

    def gain(self, state: FrameState) -> float | None:
        """Return the loss of the edge minus the loss of the cloud on a frame, by the ground truth.

        Returns:
            None if the ground truth or the edge's answer is missing.

        Raises:
            EdgeAIError: A user-defined mask source failed.
        """
        truth = state.frame.labels
        if truth is None or state.edge_labels is None:
            return None
        pair = (state.edge_labels, self.answer(state).labels)
        edge, cloud = (frame_loss(confusion(truth, labels, self._num_classes)) for labels in pair)
        return None if edge is None or cloud is None else edge - cloud
