"""Pretraining of sam-tiny.

Shapes: B scenes, H x W pixels, N prompts of a scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.config.pretrain import SamPart
from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.models.masks.sam_masks import SamMasks
from edgeai.collab.models.masks.sam_model import SamShape, build_tiny, decode, load_tiny, save_tiny
from edgeai.collab.pretrain.sam_losses import MaskLosses, mask_losses, sample_prompts, shrink_masks
from edgeai.collab.pretrain.scenes import LabeledScene
from edgeai.core.errors import UsageError

VAL_SEED = 0x5A11  # fixed, so that every validation uses the same prompts


class SamTinyPart:
    """sam-tiny, trained to segment the region that a point or a box prompts.

    Its encoder is also trained to predict classes, through a linear layer that is discarded (ours: Segment Anything
    starts from an encoder that was pretrained on far more images).

    Args:
        config: Size and training recipe.
        num_classes: Number of classes of the labels.
        device: Torch device.
    """

    def __init__(self, config: SamPart, num_classes: int, device: str) -> None:
        self.config = config
        self.device = device
        self.shape = SamShape(**config.net.model_dump())
        self.sam = build_tiny(self.shape).to(device)
        self.names = nn.Conv2d(self.shape.decoder_width, num_classes, 1).to(device)
        self.module: nn.Module = nn.ModuleDict({"sam": self.sam, "names": self.names})
        self.masks = SamMasks(
            self.sam, points_per_side=1, points_per_batch=1, iou_min=0.0, stability_min=0.0, nms_iou_max=1.0
        )  # for its image encoder

    def start_from(self, path: Path) -> None:
        """Initialize with the weights of a trained sam-tiny.

        Raises:
            UsageError: The weights are missing or have another shape.
        """
        other = load_tiny(path).state_dict()
        if {name: t.shape for name, t in other.items()} != {n: t.shape for n, t in self.sam.state_dict().items()}:
            raise UsageError(f"{path} holds a sam-tiny of another shape", hint="set part.net to the same values")
        self.sam.load_state_dict(other)

    def loss(self, scenes: Sequence[LabeledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted loss [] of a batch, and values to log."""
        features = self._features(scenes)
        naming = self._naming_loss(features, scenes)
        found = [losses for _, losses in self._scene_losses(scenes, features, rng)]
        if not found:  # no region is large enough for a prompt
            return next(self.module.parameters()).sum() * 0.0, {"loss": 0.0}
        focal, dice, error = (
            torch.stack([getattr(losses, name) for losses in found]).mean() for name in ("focal", "dice", "iou_error")
        )
        loss = self.config.focal_weight * focal + dice + error + self.config.naming_weight * naming
        return loss, {
            "loss": float(loss.detach()),
            "naming": float(naming.detach()),
            "focal": float(focal.detach()),
            "dice": float(dice.detach()),
            "iou_error": float(error.detach()),
            "iou": float(torch.cat([losses.iou_picked for losses in found]).mean()),
        }

    @torch.no_grad()
    def validate(self, scenes: Sequence[LabeledScene]) -> dict[str, float]:
        """Return the mean IoU of the mask with the highest predicted IoU, by kind of prompt and over both ("score").

        "iou_best" is the mean IoU of the best of the three masks.
        """
        rng = np.random.default_rng(VAL_SEED)
        by_point, by_box, best = [], [], []
        for num_points, losses in self._scene_losses(scenes, self._features(scenes), rng):
            by_point.append(losses.iou_picked[:num_points])
            by_box.append(losses.iou_picked[num_points:])
            best.append(losses.iou_best)
        values = {"iou_point": by_point, "iou_box": by_box, "iou_best": best, "score": by_point + by_box}
        return {name: float(torch.cat(parts).mean()) for name, parts in values.items() if sum(map(len, parts))}

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> str:
        """Save sam-tiny, and return the digest of its weights."""
        return save_tiny(folder, self.sam, self.shape, provenance)

    def _features(self, scenes: Sequence[LabeledScene]) -> Tensor:
        """Return the encoder's features [B,D,h,w]."""
        inputs = [self.sam.preprocess(self.masks.scale(scene.image)) for scene in scenes]
        features: Tensor = self.sam.image_encoder(torch.cat(inputs))
        return features

    def _naming_loss(self, features: Tensor, scenes: Sequence[LabeledScene]) -> Tensor:
        """Return the cross-entropy [] of the classes that a linear layer predicts from the features."""
        side = self.shape.image_px
        scores = F.interpolate(self.names(features), (side, side), mode="bilinear", align_corners=False)
        losses = []
        for row, scene in zip(scores, scenes, strict=True):
            height, width = self.masks.input_px(scene.labels.shape)
            within = F.interpolate(row[None, :, :height, :width], scene.labels.shape, mode="bilinear")
            labels = torch.from_numpy(scene.labels).to(self.device).long()[None]
            losses.append(F.cross_entropy(within, labels, ignore_index=IGNORE))
        return torch.stack(losses).mean()

    def _scene_losses(
        self, scenes: Sequence[LabeledScene], features: Tensor, rng: np.random.Generator
    ) -> list[tuple[int, MaskLosses]]:
        """Return the number of point prompts and the losses of each scene with prompts."""
        config, sam = self.config, self.sam
        found = []
        for scene, embedding in zip(scenes, features.split(1), strict=True):
            prompts = sample_prompts(
                scene.labels,
                config.prompts,
                min_region_px=config.min_region_px,
                box_noise_frac=config.box_noise_frac,
                rng=rng,
            )
            if prompts is None:
                continue
            frame_px = (scene.image.shape[0], scene.image.shape[1])
            decoded = []
            if len(prompts.points):
                points = self.masks.to_input(prompts.points, frame_px)
                decoded.append(decode(sam, embedding, points=points))
            if len(prompts.boxes):
                boxes = self.masks.to_input(prompts.boxes, frame_px).flatten(1)
                decoded.append(decode(sam, embedding, boxes=boxes))
            logits, ious = (torch.cat(parts) for parts in zip(*decoded, strict=True))
            stride = self.shape.image_px / logits.shape[-1]
            height, width = (max(1, round(side / stride)) for side in self.masks.input_px(frame_px))
            truth = shrink_masks(prompts.masks, (height, width), self.device)
            losses = mask_losses(logits[..., :height, :width], ious, truth, focal_weight=config.focal_weight)
            found.append((len(prompts.points), losses))
        return found
