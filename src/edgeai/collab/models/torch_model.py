"""A torch module as a segmentation model.

Shapes: B images, C stream classes, F pooled features, H x W frame pixels; M, h, w: the net's own classes and size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat, stack_images
from edgeai.collab.models.state import state_digest
from edgeai.core.errors import UsageError


class TorchModel:
    """A torch module as a `SegModel`.

    Args:
        net: Module from input [B,3,h,w] to class scores [B,M,.,.] of any size and features [B,F,.,.] or None.
        classes: Classes of the stream.
        class_map: Mapping from the net's outputs to the stream's classes.
        input_format: Conversion of frames to the net's input.
        device: Torch device.
        frozen_reason: Reason why the model cannot be trained; empty if it can.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: tuple[str, ...],
        class_map: ClassMap,
        input_format: InputFormat,
        device: str,
        frozen_reason: str = "",
    ) -> None:
        self.net = net
        self.classes = classes
        self.class_map = class_map
        self.input_format = input_format
        self.device = device
        self.frozen_reason = frozen_reason

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchModel:
        twin = copy.copy(self)
        twin.net = copy.deepcopy(self.net, memo)
        for own, given in zip(twin.net.parameters(), self.net.parameters(), strict=True):
            own.detach_().requires_grad_(
                given.requires_grad
            )  # copies of TorchScript parameters are not leaves and get no gradients
        return twin

    @property
    def trainable(self) -> nn.Module | None:
        """The net; None if it is frozen."""
        return None if self.frozen_reason else self.net

    @property
    def digest(self) -> str:
        """Short hash of the current weights."""
        return state_digest(self.net.state_dict())

    @torch.no_grad()
    def logits(self, image: np.ndarray) -> Tensor:
        """Return class logits [C,H,W] at frame size, without gradients."""
        return self.forward_batch(stack_images([image], self.device))[0][0]

    @torch.no_grad()
    def features(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return class logits [C,H,W] and pooled features [F] of one image, without gradients."""
        logits, pooled = self.forward_batch(stack_images([image], self.device))
        return logits[0], pooled[0]

    def forward_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits [B,C,H,W] and pooled features [B,F] of images [B,H,W,3] uint8."""
        raw, features = self.net(self.input_format.tensor(images))
        logits = frame_logits(raw, self.class_map, (images.shape[1], images.shape[2]))
        return logits, pool_probs(logits) if features is None else features.mean((2, 3))


def frame_logits(raw: Tensor, class_map: ClassMap, size_px: tuple[int, int]) -> Tensor:
    """Convert a net's scores [B,M,h,w] to logits of the stream's classes [B,C,H,W] at frame size."""
    logits = class_map.logits(raw)
    if tuple(logits.shape[-2:]) != size_px:
        logits = F.interpolate(logits, size_px, mode="bilinear", align_corners=False)
    return logits


def pool_probs(logits: Tensor) -> Tensor:
    """Return the mean and standard deviation of each class probability over the image [B,2C].

    They replace the features of a net that returns none.
    """
    probs = logits.softmax(1).flatten(2)
    return torch.cat([probs.mean(2), probs.std(2)], dim=1)


def score_tensor(output: Any, where: str) -> Tensor:
    """Return the class scores [B,M,h,w] in a net's output: a tensor, the first of several, "out" or "logits".

    Raises:
        UsageError: The output contains no such tensor.
    """
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits"))
    elif isinstance(output, list | tuple) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"{where} returns {shape}, not class scores [images, classes, height, width]",
            hint="wrap it so that it returns the scores before argmax",
        )
    return output.float()
