"""Pretraining of a street net.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.config.pretrain import StreetNetConfig
from edgeai.collab.metrics.confusion import IGNORE, confusion, seg_metrics
from edgeai.collab.models.checkpoint import save_model
from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat, stack_images
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.collab.pretrain.scenes import LabeledScene
from edgeai.core.errors import UsageError


class StreetPart:
    """A street net, trained with cross-entropy.

    Args:
        config: Size of the net.
        classes: Names of the classes.
        device: Torch device.
    """

    def __init__(self, config: StreetNetConfig, classes: tuple[str, ...], device: str) -> None:
        net = StreetNet(StreetNetShape(len(classes), **config.model_dump())).to(device)
        identity = ClassMap([(i,) for i in range(len(classes))], len(classes))
        self.module: nn.Module = net
        self.model = TorchModel(net, classes=classes, class_map=identity, input_format=InputFormat(), device=device)

    def start_from(self, model: TorchModel, where: Path) -> None:
        """Initialize with the weights of a trained net.

        Raises:
            UsageError: The net has another shape or other classes.
        """
        net, own = model.net, self.module
        assert isinstance(net, StreetNet)
        assert isinstance(own, StreetNet)
        if net.shape != own.shape or model.classes != self.model.classes:
            raise UsageError(
                f"{where} holds a net of {net.shape} for {len(model.classes)} classes, not of {own.shape}",
                hint="set part.net to the same values",
            )
        own.load_state_dict(net.state_dict())

    def loss(self, scenes: Sequence[LabeledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropy [] of a batch, and values to log."""
        logits, _ = self.model.forward_batch(stack_images([scene.image for scene in scenes], self.model.device))
        labels = torch.from_numpy(np.stack([scene.labels for scene in scenes])).to(self.model.device).long()
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORE)
        hits = (logits.detach().argmax(1) == labels).float().mean()
        return loss, {"loss": float(loss.detach()), "accuracy": float(hits)}

    def validate(self, scenes: Sequence[LabeledScene]) -> dict[str, float]:
        """Return mIoU and accuracy, separately for clear and drifted scenes; "score" is the mIoU over all."""
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
        """Save the net, and return the digest of its weights."""
        return save_model(folder, self.model, provenance)
