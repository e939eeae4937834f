"""The cloud's models: semantics, masks, and their fusion.

Shapes: H x W pixels.
"""

from __future__ import annotations

from edgeai.collab.cloud.answer import CloudAnswer
from edgeai.collab.cloud.fusion import fuse
from edgeai.collab.config.models import FusionConfig
from edgeai.collab.models.masks.source import MaskSource
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.wire.codec import decode_image


class CloudModels:
    """Computes answers. The models do not change during a run, so an answer depends only on the image.

    Args:
        semantics: Semantic segmentation model.
        masks: Source of class-agnostic masks.
        fusion: Fusion settings.
    """

    def __init__(self, semantics: SegModel, masks: MaskSource, fusion: FusionConfig) -> None:
        self.semantics, self.masks, self.fusion = semantics, masks, fusion

    def answer(self, jpeg: bytes, size_px: tuple[int, int]) -> CloudAnswer:
        """Return the answer to a frame.

        Args:
            jpeg: JPEG file of the frame, as uploaded.
            size_px: Height and width of the frame at the edge.

        Raises:
            EdgeAIError: The file is not a JPEG image, or a user-defined mask source failed.
        """
        image = decode_image(jpeg, size_px)
        logits = self.semantics.logits(image)
        masks = self.masks.propose(image, logits)
        config = self.fusion
        fused = fuse(logits, masks, purity_min=config.purity_min, iou_min=config.iou_min, vote=config.vote)
        semantics = logits.argmax(0).byte().cpu().numpy()
        return CloudAnswer.of(
            fused.labels, fused.weight, semantics, num_masks=len(masks), num_painted=fused.num_painted
        )
