"""Build the mask source that a config describes."""

from __future__ import annotations

from edgeai.collab.config.models import MasksConfig, NoMasks, PythonMasks
from edgeai.collab.models.masks.sam_masks import SamMasks, SamMaskSource
from edgeai.collab.models.masks.sam_model import build_sam
from edgeai.collab.models.masks.source import MaskSource, NoMaskSource
from edgeai.collab.models.masks.user_function import FunctionMaskSource, load_function


def build_masks(config: MasksConfig, device: str) -> MaskSource:
    """Return the mask source that a config describes.

    Raises:
        UsageError: Its file is missing or invalid.
    """
    if isinstance(config, NoMasks):
        return NoMaskSource()
    if isinstance(config, PythonMasks):
        return FunctionMaskSource(load_function(config.path, config.name), f"{config.path}:{config.name}")
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
