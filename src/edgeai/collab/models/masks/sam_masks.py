"""Mask proposals of a Segment Anything model.

Shapes: N prompts, K masks, H x W frame pixels. Points are (x, y), boxes (x0, y0, x1, y1), both in frame pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeai.collab.models.masks.prompts import Prompts, uncertain_regions
from edgeai.collab.models.masks.sam_model import decode
from edgeai.collab.models.masks.source import Mask
from edgeai.collab.models.masks.torchvision_stand_in import batched_nms, torchvision_stand_in

with torchvision_stand_in():
    from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, calculate_stability_score
    from segment_anything.utils.transforms import ResizeLongestSide


@dataclass(frozen=True)
class Embedding:
    """An encoded image, input of the mask decoder."""

    features: Tensor
    """[1,D,h,w]."""
    input_px: tuple[int, int]
    """Height and width of the scaled image within the padded square."""
    frame_px: tuple[int, int]
    """Height and width of the frame."""


class SamMasks:
    """Computes and filters mask proposals of a Segment Anything model.

    Args:
        sam: Model from `build_sam`.
        points_per_side: Points per side of the grid in everything mode.
        points_per_batch: Prompts decoded together.
        iou_min: Minimum predicted IoU of a mask.
        stability_min: Minimum IoU of a mask's binarizations at logits +1 and -1.
        nms_iou_max: Maximum IoU of two boxes; above it only the mask with the higher predicted IoU is kept.
    """

    def __init__(
        self,
        sam: Any,
        *,
        points_per_side: int,
        points_per_batch: int,
        iou_min: float,
        stability_min: float,
        nms_iou_max: float,
    ) -> None:
        self.sam = sam
        self.grid = build_point_grid(points_per_side)  # [N,2] as fractions of width and height
        self.points_per_batch = points_per_batch
        self.iou_min = iou_min
        self.stability_min = stability_min
        self.nms_iou_max = nms_iou_max
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)

    def scale(self, image: np.ndarray) -> Tensor:
        """Scale an RGB frame [H,W,3] uint8 to the input size [1,3,h,w], without normalization or padding."""
        return torch.from_numpy(self.transform.apply_image(image)).to(self.sam.device).permute(2, 0, 1)[None]

    def input_px(self, frame_px: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of a scaled frame."""
        height, width = self.transform.get_preprocess_shape(*frame_px, self.sam.image_encoder.img_size)
        return height, width

    def to_input(self, prompts: np.ndarray, frame_px: tuple[int, int]) -> Tensor:
        """Convert points [N,2] or boxes [N,4] from frame pixels to input points [N,1 or 2,2]."""
        scaled = self.transform.apply_coords(prompts.reshape(len(prompts), -1, 2), frame_px)
        return torch.as_tensor(scaled, dtype=torch.float, device=self.sam.device)

    @torch.no_grad()
    def embed(self, image: np.ndarray) -> Embedding:
        """Run the image encoder on an RGB frame [H,W,3] uint8, once for any number of prompts."""
        scaled = self.scale(image)
        features = self.sam.image_encoder(self.sam.preprocess(scaled))
        return Embedding(features, (scaled.shape[2], scaled.shape[3]), (image.shape[0], image.shape[1]))

    def everything(self, embedding: Embedding) -> list[Mask]:
        """Return masks of the whole image: three for every grid point, filtered, without duplicates.

        Equals the package's `SamAutomaticMaskGenerator` without crops.
        """
        points = self.grid * np.array(embedding.frame_px[::-1])
        return self._filtered(*self._decode(embedding, points=points))

    def guided(self, embedding: Embedding, *, points: np.ndarray, boxes: np.ndarray) -> list[Mask]:
        """Return the mask with the highest predicted IoU for each prompt (ours), filtered, without duplicates.

        Args:
            embedding: Embedding of the frame.
            points: Point prompts [N,2].
            boxes: Box prompts [N,4].
        """
        parts = []
        for prompts in ({"points": points}, {"boxes": boxes}):
            if len(next(iter(prompts.values()))):
                logits, iou_preds = self._decode(embedding, **prompts)
                best = iou_preds.argmax(1, keepdim=True)
                logits = torch.take_along_dim(logits, best[:, :, None, None], 1)
                parts.append((logits, torch.take_along_dim(iou_preds, best, 1)))
        if not parts:
            return []
        return self._filtered(torch.cat([logits for logits, _ in parts]), torch.cat([ious for _, ious in parts]))

    @torch.no_grad()
    def _decode(
        self, embedding: Embedding, *, points: np.ndarray | None = None, boxes: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits [N,3,H,W] and predicted IoUs [N,3] of prompts, decoded in batches."""
        logits, ious = [], []
        prompts = points if points is not None else boxes
        assert prompts is not None
        for chunk in self.to_input(prompts, embedding.frame_px).split(self.points_per_batch):
            given = {"points": chunk} if points is not None else {"boxes": chunk.flatten(1)}
            low, iou = decode(self.sam, embedding.features, **given)
            logits.append(self.sam.postprocess_masks(low, embedding.input_px, embedding.frame_px))
            ious.append(iou)
        return torch.cat(logits), torch.cat(ious)

    def _filtered(self, logits: Tensor, iou_preds: Tensor) -> list[Mask]:
        """Apply thresholds, then non-maximum suppression, as in `SamAutomaticMaskGenerator`."""
        logits, iou_preds = logits.flatten(0, 1), iou_preds.flatten()
        threshold = self.sam.mask_threshold
        keep = (iou_preds > self.iou_min) & (calculate_stability_score(logits, threshold, 1.0) >= self.stability_min)
        masks, iou_preds = logits[keep] > threshold, iou_preds[keep]
        boxes = batched_mask_to_box(masks).float()
        stays = batched_nms(boxes, iou_preds, torch.zeros(len(masks)), self.nms_iou_max)
        arrays = masks[stays].cpu().numpy()
        return [Mask(mask, float(iou)) for mask, iou in zip(arrays, iou_preds[stays].clamp(0, 1), strict=True)]


class SamMaskSource:
    """Proposes masks for a grid of points, for uncertain regions of the semantics, or for both.

    Args:
        sam: Mask proposals of the model.
        prompts: Kind of prompts: grid, guided or both.
        guide: Form of a guided prompt: point or box.
        max_guided: Maximum number of guided prompts for one frame.
        uncertain_below: Mean class probability below which a region is prompted.
        min_region_px: Minimum area of a prompted region.
    """

    def __init__(
        self, sam: SamMasks, *, prompts: str, guide: str, max_guided: int, uncertain_below: float, min_region_px: int
    ) -> None:
        self.sam = sam
        self.prompts = prompts
        self.guide = guide
        self.max_guided = max_guided
        self.uncertain_below = uncertain_below
        self.min_region_px = min_region_px

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """Return the masks of all prompts."""
        found = Prompts(np.empty((0, 2)), np.empty((0, 4)))
        if self.prompts != "grid":
            found = uncertain_regions(
                logits,
                max_regions=self.max_guided,
                uncertain_below=self.uncertain_below,
                min_region_px=self.min_region_px,
            )
            if self.prompts == "guided" and not len(found.points):
                return []  # no prompts: skip the encoder
        embedding = self.sam.embed(image)
        masks = self.sam.everything(embedding) if self.prompts != "guided" else []
        by_point = self.guide == "point"
        return masks + self.sam.guided(
            embedding,
            points=found.points if by_point else found.points[:0],
            boxes=found.boxes[:0] if by_point else found.boxes,
        )
