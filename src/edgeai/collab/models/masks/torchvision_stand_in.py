"""Stand-ins for the four torchvision functions that segment_anything uses, where torchvision cannot be imported.

torchvision's PyPI wheel is built against one build of torch and does not load beside another, such as the CPU-only one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pil_image(image: np.ndarray) -> Image.Image:
    """Convert an RGB image [H,W,3] uint8 to a Pillow image."""
    return Image.fromarray(image)


def resize(image: Image.Image, size_px: Sequence[int]) -> Image.Image:
    """Scale a Pillow image bilinearly to (height, width)."""
    height, width = size_px
    return image.resize((width, height), Image.Resampling.BILINEAR)


def box_area(boxes: Tensor) -> Tensor:
    """Return the areas [N] of boxes [N,4], each x0, y0, x1, y1."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Apply non-maximum suppression within each category.

    Args:
        boxes: Boxes [N,4], each x0, y0, x1, y1.
        scores: Scores [N].
        idxs: Category of each box [N].
        iou_threshold: IoU with a higher-scored box above which a box is removed.

    Returns:
        Indices of the kept boxes, highest score first.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, idxs = boxes[order], idxs[order]
    area = box_area(boxes)
    stays = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in range(len(boxes)):
        if not stays[i]:
            continue
        rest = slice(i + 1, None)
        corner = torch.maximum(boxes[i, :2], boxes[rest, :2])
        size = (torch.minimum(boxes[i, 2:], boxes[rest, 2:]) - corner).clamp_min(0)
        overlap = size[:, 0] * size[:, 1]
        goes = overlap / (area[i] + area[rest] - overlap) > iou_threshold
        stays[rest] &= ~(goes & (idxs[rest] == idxs[i]))
    return order[stays]


@contextmanager
def torchvision_stand_in() -> Iterator[None]:
    """Let `import torchvision...` find the stand-ins inside the block, if the real package cannot be imported.

    Afterwards the stand-ins are removed, so that no other package mistakes them for torchvision.
    """
    if _imports():
        yield
        return
    functional = {"resize": resize, "to_pil_image": to_pil_image}
    ops = {"box_area": box_area, "batched_nms": batched_nms}
    parts = {
        "torchvision": {},
        "torchvision.ops": {},
        "torchvision.ops.boxes": ops,
        "torchvision.transforms": {},
        "torchvision.transforms.functional": functional,
    }
    for name, members in parts.items():
        module = ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in parts:
            sys.modules.pop(name, None)


def _imports() -> bool:
    """Return whether the real torchvision can be imported."""
    try:
        importlib.import_module("torchvision.ops.boxes")
        importlib.import_module("torchvision.transforms.functional")
    except (ImportError, RuntimeError, OSError, AttributeError):  # a mismatched build fails in any of these ways
        for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
            sys.modules.pop(name)  # partly initialized by the failed import
        return False
    return True
