"""What `collab pretrain` trains: a street net, or sam-tiny. Each knows its loss, its validation and its files.

Shapes: B scenes, C classes, H x W pixels, N prompts of a scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.config.pretrain import SamPart, StreetNetConfig
from edgeai.collab.metrics.confusion import IGNORE, confusion, seg_metrics
from edgeai.collab.models.checkpoint import save_model
from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat, stack_images
from edgeai.collab.models.masks.sam_masks import SamMasks
from edgeai.collab.models.masks.sam_model import SamShape, build_tiny, decode, load_tiny, save_tiny
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.collab.pretrain.sam_recipe import MaskLosses, mask_losses, sample_prompts, shrink_masks
from edgeai.collab.pretrain.scenes import LabelledScene
from edgeai.core.errors import UsageError

VAL_SEED = 0x5A11  # prompts of the validation scenes are the same at every validation


class Part(Protocol):
    """Something that `collab pretrain` trains."""

    module: nn.Module

    def loss(self, scenes: Sequence[LabelledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss [] of a batch, differentiable, and what is logged."""

    def validate(self, scenes: Sequence[LabelledScene]) -> dict[str, float]:
        """Quality on scenes; the entry "score" is what the best checkpoint is chosen by."""

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> str:
        """Write the weights; returns their digest as they read back."""


class SegPart:
    """A street net learns the labels by plain cross-entropy.

    Args:
        config: Its size.
        classes: What it tells apart.
        device: Where it learns.
    """

    def __init__(self, config: StreetNetConfig, classes: tuple[str, ...], device: str) -> None:
        net = StreetNet(StreetNetShape(len(classes), **config.model_dump())).to(device)
        identity = ClassMap([(i,) for i in range(len(classes))], len(classes))
        self.module: nn.Module = net
        self.model = TorchModel(net, classes=classes, class_map=identity, input_format=InputFormat(), device=device)

    def start_from(self, model: TorchModel, where: Path) -> None:
        """Take the weights of a trained net.

        Raises:
            UsageError: It has another shape or other classes.
        """
        net, own = model.net, self.module
        assert isinstance(net, StreetNet)
        assert isinstance(own, StreetNet)
        if net.shape != own.shape or model.classes != self.model.classes:
            raise UsageError(
                f"{where} holds a net of {net.shape} for {len(model.classes)} classes, not of {own.shape}",
                hint="make part.net equal to it",
            )
        own.load_state_dict(net.state_dict())

    def loss(self, scenes: Sequence[LabelledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """See `Part`."""
        logits, _ = self.model.forward_batch(stack_images([scene.image for scene in scenes], self.model.device))
        labels = torch.from_numpy(np.stack([scene.labels for scene in scenes])).to(self.model.device).long()
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORE)
        hits = (logits.detach().argmax(1) == labels).float().mean()
        return loss, {"loss": float(loss.detach()), "accuracy": float(hits)}

    def validate(self, scenes: Sequence[LabelledScene]) -> dict[str, float]:
        """Mean IoU and accuracy, apart for clear scenes and those under drift; "score" is the mean IoU over both."""
        num = len(self.model.classes)
        counts = {"clear": np.zeros((num, num), dtype=np.int64), "drift": np.zeros((num, num), dtype=np.int64)}
        for scene in scenes:
            labels = self.model.logits(scene.image).argmax(0).byte().cpu().numpy()
            counts["drift" if scene.drift else "clear"] += confusion(scene.labels, labels, num)
        values: dict[str, float] = {}
        for name, part in (*counts.items(), ("", counts["clear"] + counts["drift"])):
            metrics = seg_metrics(part)
            if metrics is not None:
                values |= {f"miou_{name}" if name else "score": metrics.miou}
                values |= {f"accuracy_{name}": metrics.accuracy} if name else {}
        return values

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> str:
        """See `Part`."""
        return save_model(folder, self.model, provenance)


class SamTinyPart:
    """sam-tiny learns to cut out the region that a point or a box means.

    Its encoder also learns to name the classes, through a linear layer that is thrown away (ours: Segment Anything
    starts from an encoder that was pretrained on far more pictures).

    Args:
        config: Its size and recipe.
        num_classes: Of the labels.
        device: Where it learns.
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
        """Take the weights of a trained sam-tiny.

        Raises:
            UsageError: It is not there, or has another shape.
        """
        other = load_tiny(path).state_dict()
        if {name: t.shape for name, t in other.items()} != {n: t.shape for n, t in self.sam.state_dict().items()}:
            raise UsageError(f"{path} holds a sam-tiny of another shape", hint="make part.net equal to it")
        self.sam.load_state_dict(other)

    def loss(self, scenes: Sequence[LabelledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """See `Part`."""
        features = self._features(scenes)
        naming = self._naming_loss(features, scenes)
        found = [losses for _, losses in self._scene_losses(scenes, features, rng)]
        if not found:  # not one region is large enough: nothing to learn from these scenes
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
    def validate(self, scenes: Sequence[LabelledScene]) -> dict[str, float]:
        """Mean IoU of the mask that the IoU head picks, by kind of prompt ("score": over both), and of the best one."""
        rng = np.random.default_rng(VAL_SEED)
        by_point, by_box, best = [], [], []
        for num_points, losses in self._scene_losses(scenes, self._features(scenes), rng):
            by_point.append(losses.iou_picked[:num_points])
            by_box.append(losses.iou_picked[num_points:])
            best.append(losses.iou_best)
        values = {"iou_point": by_point, "iou_box": by_box, "iou_best": best, "score": by_point + by_box}
        return {name: float(torch.cat(parts).mean()) for name, parts in values.items() if sum(map(len, parts))}

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> str:
        """See `Part`."""
        return save_tiny(folder, self.sam, self.shape, provenance)

    def _features(self, scenes: Sequence[LabelledScene]) -> Tensor:
        """The encoder's [B,D,h,w]."""
        inputs = [self.sam.preprocess(self.masks.scale(scene.image)) for scene in scenes]
        features: Tensor = self.sam.image_encoder(torch.cat(inputs))
        return features

    def _naming_loss(self, features: Tensor, scenes: Sequence[LabelledScene]) -> Tensor:
        """Cross-entropy of the classes that a linear layer reads off the features []."""
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
        self, scenes: Sequence[LabelledScene], features: Tensor, rng: np.random.Generator
    ) -> list[tuple[int, MaskLosses]]:
        """Losses of each scene with regions, and how many of its prompts are points."""
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
