"""Where class-agnostic masks come from: SAM, a user's own function, or nowhere.

Shapes: C classes, N masks or prompts, H x W pixels.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from edgeai.collab.cloud.fusion import Mask
from edgeai.collab.config.models import MasksConfig, NoMasks, PythonMasks
from edgeai.collab.models.regions import connected_regions
from edgeai.collab.models.sam import SamMasks, build_sam
from edgeai.core.errors import EdgeAIError, UsageError


class MaskSource(Protocol):
    """Proposes masks for a frame."""

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """Masks for an RGB frame [H,W,3] uint8, given the semantics' logits [C,H,W]."""


@dataclass(frozen=True)
class Prompts:
    """Where the semantics asks for help."""

    points: np.ndarray
    """(x, y) of a pixel inside each region [N,2]."""
    boxes: np.ndarray
    """(x0, y0, x1, y1) around each region, its last pixels included [N,4]."""


class NoMaskSource:
    """Leaves the semantics as it is."""

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """None at all."""
        return []


class SamMaskSource:
    """SAM on a grid of points, guided by the semantics, or both.

    Args:
        sam: The proposals.
        prompts: grid, guided or both.
        guide: What a guided prompt is: point or box.
        max_guided: Guided prompts for one frame.
        uncertain_below: Mean probability of a region's class below which it is prompted.
        min_region_px: Smaller regions are not prompted.
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
        """See `MaskSource`."""
        found = Prompts(np.empty((0, 2)), np.empty((0, 4)))
        if self.prompts != "grid":
            found = uncertain_regions(
                logits,
                max_regions=self.max_guided,
                uncertain_below=self.uncertain_below,
                min_region_px=self.min_region_px,
            )
            if self.prompts == "guided" and not len(found.points):
                return []  # nothing to ask: the encoder's time is saved
        embedding = self.sam.embed(image)
        masks = self.sam.everything(embedding) if self.prompts != "guided" else []
        by_point = self.guide == "point"
        return masks + self.sam.guided(
            embedding,
            points=found.points if by_point else found.points[:0],
            boxes=found.boxes[:0] if by_point else found.boxes,
        )


class PythonMaskSource:
    """A user's own function.

    Args:
        function: `propose(image [H,W,3] uint8, probs [C,H,W] float32)`, giving masks [N,H,W] bool or a pair of those
            and their expected IoUs [N].
        where: Its file and name, for messages.
    """

    def __init__(self, function: Callable[[np.ndarray, np.ndarray], Any], where: str) -> None:
        self.function = function
        self.where = where

    def propose(self, image: np.ndarray, logits: Tensor) -> list[Mask]:
        """See `MaskSource`.

        Raises:
            EdgeAIError: The function failed, or what it gives are no masks of this frame.
        """
        probs = logits.detach().softmax(0).cpu().numpy()
        try:
            result = self.function(image.copy(), probs)  # a copy: whatever it does to the frame stays its own affair
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise EdgeAIError(
                f"{self.where} failed: {type(error).__name__}: {error}", hint=f"look at {line.filename}:{line.lineno}"
            ) from error
        masks, ious = result if isinstance(result, tuple) else (result, None)
        masks = np.asarray(masks)
        if masks.size == 0:
            return []
        if masks.dtype != bool or masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
            raise EdgeAIError(
                f"{self.where} gives {masks.dtype} {list(masks.shape)}, not bool {['N', *image.shape[:2]]}",
                hint="return one boolean map for each mask",
            )
        ious = np.ones(len(masks)) if ious is None else np.asarray(ious, dtype=float)
        if ious.shape != (len(masks),):
            raise EdgeAIError(
                f"{self.where} gives {len(masks)} masks, but IoUs of shape {list(ious.shape)}",
                hint="return one expected IoU for each mask",
            )
        return [Mask(mask, float(iou)) for mask, iou in zip(masks, ious, strict=True)]


def build_masks(config: MasksConfig, device: str) -> MaskSource:
    """The mask source a config asks for.

    Raises:
        UsageError: Its file is missing or is not what it should be.
    """
    if isinstance(config, NoMasks):
        return NoMaskSource()
    if isinstance(config, PythonMasks):
        return PythonMaskSource(load_function(config.path, config.name), f"{config.path}:{config.name}")
    sam = SamMasks(
        build_sam(config.model, config.checkpoint, sha256=config.sha256, device=device),
        points_per_side=config.points_per_side,
        points_per_batch=config.points_per_batch,
        iou_min=config.iou_min,
        stability_min=config.stability_min,
        nms_iou_max=config.nms_iou_max,
    )
    return SamMaskSource(
        sam,
        prompts=config.prompts,
        guide=config.guide,
        max_guided=config.max_guided,
        uncertain_below=config.uncertain_below,
        min_region_px=config.min_region_px,
    )


def load_function(path: Path, name: str) -> Callable[..., Any]:
    """A function from a Python file, which is run for that.

    Raises:
        UsageError: No such file or function, or the file does not run.
    """
    spec = importlib.util.spec_from_file_location(f"edgeai_user_{path.stem}", path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"no Python file at {path}", hint="give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path} does not run: {type(error).__name__}: {error}", hint=f"try: python {path}") from error
    function = vars(module).get(name)
    if not callable(function):
        raise UsageError(f"{path} has no function {name}", hint=f"define it: def {name}(image, probs)")
    return function


def uncertain_regions(logits: Tensor, *, max_regions: int, uncertain_below: float, min_region_px: int) -> Prompts:
    """Prompts for the connected regions of the semantics that it is not sure of (ours).

    Args:
        logits: Class logits [C,H,W].
        max_regions: At most so many; those with most uncertain mass (area times mean doubt) first.
        uncertain_below: Mean probability of a region's class below which it counts.
        min_region_px: Smaller regions do not count.
    """
    probs, labels = (part.cpu().numpy() for part in logits.detach().softmax(0).max(0))
    regions = connected_regions(labels.astype(np.uint8))
    area = np.bincount(regions.ravel())
    doubt_px = np.bincount(regions.ravel(), weights=1.0 - probs.ravel().astype(float))
    wanted = (area >= min_region_px) & (doubt_px > (1.0 - uncertain_below) * area)
    chosen = np.argsort(-np.where(wanted, doubt_px, 0.0), kind="stable")[: min(max_regions, int(wanted.sum()))]
    points, boxes = [], []
    for region in chosen:
        inside = regions == region
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        x0, y0, x1, y1 = columns[0], rows[0], columns[-1], rows[-1]
        y, x = innermost(inside[y0 : y1 + 1, x0 : x1 + 1])
        points.append((x0 + x, y0 + y))
        boxes.append((x0, y0, x1, y1))
    return Prompts(np.array(points, dtype=float).reshape(-1, 2), np.array(boxes, dtype=float).reshape(-1, 4))


def innermost(inside: np.ndarray) -> tuple[int, int]:
    """Return the pixel (y, x) of a region [H,W] farthest from its border, in steps between adjacent pixels.

    Of several, the pixel nearest to their mean is returned.
    """
    depth = distance_transform_cdt(np.pad(inside, 1), metric="taxicab")[1:-1, 1:-1]
    ys, xs = np.nonzero(depth == depth.max())
    nearest = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
    return int(ys[nearest]), int(xs[nearest])
