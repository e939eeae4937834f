"""Segment Anything (arXiv 2304.02643) through its own package: official checkpoints, our small one, and mask proposals.

Shapes: N prompts, K masks, H x W frame pixels. Points are (x, y), boxes (x0, y0, x1, y1), both in frame pixels.
The one place that imports segment_anything.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeai.collab.cloud.fusion import Mask
from edgeai.collab.models.checkpoint import (
    find_checkpoint,
    load_strictly,
    read_checkpoint,
    shipped_checkpoint,
    write_checkpoint,
)
from edgeai.collab.models.torchvision_parts import batched_nms, standing_in
from edgeai.core.errors import UsageError
from edgeai.core.files import sha256_of

with standing_in():
    from segment_anything import sam_model_registry
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, calculate_stability_score
    from segment_anything.utils.transforms import ResizeLongestSide

TINY = "sam-tiny"
OFFICIAL = ("vit_b", "vit_l", "vit_h")
GLOBAL_EVERY = 4  # of the encoder's blocks, every fourth attends to the whole image, as in SAM


@dataclass(frozen=True)
class SamShape:
    """Size of sam-tiny."""

    image_px: int = 192
    """Longer side of the input; the shorter one is padded."""
    patch_px: int = 8
    encoder_width: int = 160
    encoder_depth: int = 8
    encoder_heads: int = 5
    window: int = 8
    """Side of the attention windows, in patches."""
    decoder_width: int = 96
    decoder_heads: int = 8


@dataclass(frozen=True)
class Embedding:
    """An image as the mask decoder sees it."""

    features: Tensor
    """[1,D,h,w]."""
    input_px: tuple[int, int]
    """Height and width of the scaled image within the padded square."""
    frame_px: tuple[int, int]
    """Height and width of the frame."""


def build_tiny(shape: SamShape) -> Any:
    """The package's own `Sam` in a small configuration, with random weights.

    Raises:
        UsageError: The sizes do not divide.
    """
    if shape.image_px % shape.patch_px or shape.encoder_width % shape.encoder_heads:
        raise UsageError(
            f"sam-tiny: patch_px must divide image_px, and encoder_heads encoder_width, not {asdict(shape)}",
            hint="change them in part.net",
        )
    if shape.decoder_width % (2 * shape.decoder_heads):
        raise UsageError(
            f"sam-tiny: 2 x decoder_heads ({shape.decoder_heads}) must divide decoder_width ({shape.decoder_width})",
            hint="change them in part.net",
        )
    side = shape.image_px // shape.patch_px
    encoder = ImageEncoderViT(
        img_size=shape.image_px,
        patch_size=shape.patch_px,
        embed_dim=shape.encoder_width,
        depth=shape.encoder_depth,
        num_heads=shape.encoder_heads,
        out_chans=shape.decoder_width,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=shape.window,
        global_attn_indexes=tuple(range(GLOBAL_EVERY - 1, shape.encoder_depth, GLOBAL_EVERY)),
    )
    prompts = PromptEncoder(
        embed_dim=shape.decoder_width,
        image_embedding_size=(side, side),
        input_image_size=(shape.image_px, shape.image_px),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        transformer_dim=shape.decoder_width,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=shape.decoder_width, mlp_dim=4 * shape.decoder_width, num_heads=shape.decoder_heads
        ),
        iou_head_hidden_dim=shape.decoder_width,
    )
    return Sam(encoder, prompts, decoder).eval()


def build_sam(name: str, checkpoint: Path | None, *, sha256: str | None = None, device: str = "cpu") -> Any:
    """A Segment Anything model with trained weights, in evaluation mode.

    Args:
        name: vit_b, vit_l, vit_h or sam-tiny.
        checkpoint: The official file; for sam-tiny a folder or run, None for the shipped weights.
        sha256: Checksum that an official file must have; None does not look.
        device: Where it will run.

    Raises:
        UsageError: No such file, a wrong checksum, or weights of another model.
    """
    if name == TINY:
        return load_tiny(checkpoint or shipped_checkpoint(TINY, "sam")).to(device)
    if checkpoint is None:
        raise UsageError(f"{name} needs its official checkpoint", hint="set cloud.masks.checkpoint to the file's path")
    tensors = _official_tensors(checkpoint, sha256)
    sam = sam_model_registry[name]()
    load_strictly(sam, tensors, f"{checkpoint} as {name}")
    return sam.eval().to(device)


def load_tiny(path: Path) -> Any:
    """sam-tiny from a folder or a run of `collab pretrain`.

    Raises:
        UsageError: No such weights there, or damaged ones.
    """
    folder = find_checkpoint(path)
    found = read_checkpoint(folder, kind="sam_tiny")
    sam = build_tiny(SamShape(**found.config["shape"]))
    load_strictly(sam, found.tensors, str(folder))
    return sam


def save_tiny(folder: Path, sam: nn.Module, shape: SamShape, provenance: Mapping[str, Any]) -> str:
    """Write sam-tiny; returns the digest of the weights as they read back.

    Raises:
        EdgeAIError: The disk is full.
    """
    config = {"kind": "sam_tiny", "shape": asdict(shape), "provenance": dict(provenance)}
    return write_checkpoint(folder, config, sam.state_dict())


class SamMasks:
    """Mask proposals of one SAM.

    Args:
        sam: From `build_sam`.
        points_per_side: Grid of the everything mode.
        points_per_batch: Prompts decoded together.
        iou_min: Masks with a lower predicted IoU are dropped.
        stability_min: So are those whose cuts at logits +1 and -1 overlap less.
        nms_iou_max: Of masks whose boxes overlap more, the one with the highest predicted IoU stays.
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
        self.grid = build_point_grid(points_per_side)  # [N,2] in shares of width and height
        self.points_per_batch = points_per_batch
        self.iou_min = iou_min
        self.stability_min = stability_min
        self.nms_iou_max = nms_iou_max
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)

    def scale(self, image: np.ndarray) -> Tensor:
        """An RGB frame [H,W,3] uint8 scaled to the input's longer side [1,3,h,w], neither normalised nor padded."""
        return torch.from_numpy(self.transform.apply_image(image)).to(self.sam.device).permute(2, 0, 1)[None]

    def input_px(self, frame_px: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a scaled frame."""
        height, width = self.transform.get_preprocess_shape(*frame_px, self.sam.image_encoder.img_size)
        return height, width

    def to_input(self, prompts: np.ndarray, frame_px: tuple[int, int]) -> Tensor:
        """Points [N,2] or boxes [N,4] in frame pixels as points of the input [N,1 or 2,2]."""
        scaled = self.transform.apply_coords(prompts.reshape(len(prompts), -1, 2), frame_px)
        return torch.as_tensor(scaled, dtype=torch.float, device=self.sam.device)

    @torch.no_grad()
    def embed(self, image: np.ndarray) -> Embedding:
        """Run the image encoder on an RGB frame [H,W,3] uint8; the decoder then takes any number of prompts."""
        scaled = self.scale(image)
        features = self.sam.image_encoder(self.sam.preprocess(scaled))
        return Embedding(features, (scaled.shape[2], scaled.shape[3]), (image.shape[0], image.shape[1]))

    def everything(self, embedding: Embedding) -> list[Mask]:
        """Masks of all the image holds: three for every grid point, filtered and without duplicates.

        Equals the package's `SamAutomaticMaskGenerator` without crops.
        """
        points = self.grid * np.array(embedding.frame_px[::-1])
        return self._filtered(*self._decode(embedding, points=points))

    def guided(self, embedding: Embedding, *, points: np.ndarray, boxes: np.ndarray) -> list[Mask]:
        """For each prompt the mask that SAM expects to fit best (ours); filtered and without duplicates.

        Args:
            embedding: The frame.
            points: One prompt each [N,2].
            boxes: One prompt each [N,4].
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
        """Mask logits [N,3,H,W] and predicted IoUs [N,3] of prompts, decoded in batches."""
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
        """Thresholds, then non-maximum suppression, as in `SamAutomaticMaskGenerator`."""
        logits, iou_preds = logits.flatten(0, 1), iou_preds.flatten()
        threshold = self.sam.mask_threshold
        keep = (iou_preds > self.iou_min) & (calculate_stability_score(logits, threshold, 1.0) >= self.stability_min)
        masks, iou_preds = logits[keep] > threshold, iou_preds[keep]
        boxes = batched_mask_to_box(masks).float()
        stays = batched_nms(boxes, iou_preds, torch.zeros(len(masks)), self.nms_iou_max)
        arrays = masks[stays].cpu().numpy()
        return [Mask(mask, float(iou)) for mask, iou in zip(arrays, iou_preds[stays].clamp(0, 1), strict=True)]


def decode(
    sam: Any, features: Tensor, *, points: Tensor | None = None, boxes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the prompt encoder and the mask decoder on one image; differentiable.

    Args:
        sam: The model.
        features: Its image embedding [1,D,h,w].
        points: Prompts of one foreground point each [N,1,2], in input pixels.
        boxes: Or prompts of one box each [N,4], in input pixels.

    Returns:
        Logits of three masks for each prompt [N,3,4h,4w] over the padded square, and their predicted IoUs [N,3].
    """
    labelled = None if points is None else (points, torch.ones(points.shape[:2], device=points.device))
    sparse, dense = sam.prompt_encoder(points=labelled, boxes=boxes, masks=None)
    low, iou = sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    return low, iou


def _official_tensors(checkpoint: Path, sha256: str | None) -> Mapping[str, Tensor]:
    """The tensors of an official file; nothing in it is executed."""
    hint = "give the .pth file that Segment Anything publishes, or the right checksum"
    if not checkpoint.is_file():
        raise UsageError(f"no checkpoint at {checkpoint}", hint=hint)
    if sha256 is not None and (found := sha256_of(checkpoint)) != sha256.lower():
        raise UsageError(f"{checkpoint}: SHA-256 is {found}, expected {sha256.lower()}", hint=hint)
    try:
        tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{checkpoint} is no checkpoint of tensors: {reason[0]}", hint=hint) from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        kind = type(tensors).__name__
        raise UsageError(f"{checkpoint} holds a {kind}, not named tensors", hint=hint)
    return tensors
