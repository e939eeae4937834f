"""What the edge and the cloud ask of a segmentation model, and the model that is a torch module.

Shapes: B images, C stream classes, F pooled features, H x W frame pixels; M, h, w: the net's own.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat, stack_images
from edgeai.core.errors import UsageError


class SegModel(Protocol):
    """A segmentation model behind one door. Images are RGB uint8 [H,W,3]."""

    classes: tuple[str, ...]
    """The stream's classes, in the order of the logits."""
    frozen_reason: str
    """Why it cannot be trained; empty if it can."""

    @property
    def trainable(self) -> nn.Module | None:
        """The module whose weights may be changed, kept in eval mode between trainings; None: the model is frozen."""

    @property
    def digest(self) -> str:
        """Short hash of the weights as they are now."""

    def logits(self, image: np.ndarray) -> Tensor:
        """Class logits [C,H,W] at frame size, without gradients."""

    def features(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """Class logits [C,H,W] and pooled features [F] of one image, without gradients."""

    def forward_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [B,C,H,W] and pooled features [B,F] of images [B,H,W,3] uint8; differentiable if trainable."""


class TorchModel:
    """A torch module as a `SegModel`.

    Args:
        net: From input [B,3,h,w] to class scores [B,M,.,.] of any size and, if it has some, features [B,F,.,.].
        classes: The stream's classes.
        class_map: From the net's outputs to them.
        input_format: How frames become its input.
        device: Where it runs.
        frozen_reason: Why it cannot be trained; empty if it can.
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
            own.detach_().requires_grad_(given.requires_grad)  # TorchScript's copies are no leaves: none could learn
        return twin

    @property
    def trainable(self) -> nn.Module | None:
        """The net, unless it is frozen."""
        return None if self.frozen_reason else self.net

    @property
    def digest(self) -> str:
        """Short hash of the net's weights as they are now."""
        return state_digest(self.net.state_dict())

    @torch.no_grad()
    def logits(self, image: np.ndarray) -> Tensor:
        """See `SegModel`."""
        return self.forward_batch(stack_images([image], self.device))[0][0]

    @torch.no_grad()
    def features(self, image: np.ndarray) -> tuple[Tensor, Tensor]:
        """See `SegModel`."""
        logits, pooled = self.forward_batch(stack_images([image], self.device))
        return logits[0], pooled[0]

    def forward_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `SegModel`."""
        raw, features = self.net(self.input_format.tensor(images))
        logits = frame_logits(raw, self.class_map, (images.shape[1], images.shape[2]))
        return logits, pool_probs(logits) if features is None else features.mean((2, 3))


def frame_logits(raw: Tensor, class_map: ClassMap, size_px: tuple[int, int]) -> Tensor:
    """A net's scores [B,M,h,w] as the stream's logits [B,C,H,W] at frame size."""
    logits = class_map.logits(raw)
    if tuple(logits.shape[-2:]) != size_px:
        logits = F.interpolate(logits, size_px, mode="bilinear", align_corners=False)
    return logits


def pool_probs(logits: Tensor) -> Tensor:
    """Mean and spread of each class's probability over the image [B,2C]: features of a net that shows no others."""
    probs = logits.softmax(1).flatten(2)
    return torch.cat([probs.mean(2), probs.std(2)], dim=1)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """First 16 hexadecimal digits of the SHA-256 over names and bytes of a state dict; saved weights hold theirs."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def score_tensor(output: Any, where: str) -> Tensor:
    """The class scores [B,M,h,w] in what a foreign net returns: a tensor, the first of several, or "out" or "logits".

    Raises:
        UsageError: There is no such tensor.
    """
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits"))
    elif isinstance(output, list | tuple) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UsageError(
            f"{where} gives {shape}, not class scores [images, classes, height, width]",
            hint="wrap it so that it returns the scores before argmax",
        )
    return output.float()
