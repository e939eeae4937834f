"""Segment Anything models (arXiv 2304.02643) of the segment_anything package: official checkpoints and sam-tiny.

Shapes: N prompts, h x w cells of the image embedding.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeai.collab.models.checkpoint import (
    find_checkpoint,
    load_strictly,
    read_checkpoint,
    shipped_checkpoint,
    write_checkpoint,
)
from edgeai.collab.models.masks.torchvision_stand_in import torchvision_stand_in
from edgeai.core.errors import UsageError
from edgeai.core.files import sha256_of

with torchvision_stand_in():
    from segment_anything import sam_model_registry
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

TINY = "sam-tiny"
OFFICIAL = ("vit_b", "vit_l", "vit_h")
GLOBAL_EVERY = 4  # of the encoder's blocks, every fourth attends to the whole image, as in SAM


@dataclass(frozen=True)
class SamShape:
    """Architecture sizes of sam-tiny."""

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


def build_tiny(shape: SamShape) -> Any:
    """Return the package's `Sam` in a small configuration, with random weights.

    Raises:
        UsageError: A size is not divisible as required.
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
    """Return a Segment Anything model with trained weights, in evaluation mode.

    Args:
        name: vit_b, vit_l, vit_h or sam-tiny.
        checkpoint: Path of the official file; for sam-tiny a folder or run, or None for the shipped weights.
        sha256: Required checksum of an official file; None skips the check.
        device: Torch device.

    Raises:
        UsageError: The file does not exist, has another checksum, or contains weights of another model.
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
    """Load sam-tiny from a folder or a run of `collab pretrain`.

    Raises:
        UsageError: The weights are missing or damaged.
    """
    folder = find_checkpoint(path)
    found = read_checkpoint(folder, kind="sam_tiny")
    sam = build_tiny(SamShape(**found.config["shape"]))
    load_strictly(sam, found.tensors, str(folder))
    return sam


def save_tiny(folder: Path, sam: nn.Module, shape: SamShape, provenance: Mapping[str, Any]) -> str:
    """Save sam-tiny and return the digest of the weights as stored.

    Raises:
        EdgeAIError: The disk is full.
    """
    config = {"kind": "sam_tiny", "shape": asdict(shape), "provenance": dict(provenance)}
    return write_checkpoint(folder, config, sam.state_dict())


def decode(
    sam: Any, features: Tensor, *, points: Tensor | None = None, boxes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run the prompt encoder and the mask decoder on one image; differentiable.

    Args:
        sam: Segment Anything model.
        features: Image embedding [1,D,h,w].
        points: Prompts of one foreground point each [N,1,2], in input pixels.
        boxes: Prompts of one box each [N,4], in input pixels, in place of points.

    Returns:
        Logits of three masks for each prompt [N,3,4h,4w] over the padded square, and their predicted IoUs [N,3].
    """
    prompts = None if points is None else (points, torch.ones(points.shape[:2], device=points.device))
    sparse, dense = sam.prompt_encoder(points=prompts, boxes=boxes, masks=None)
    low, iou = sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    return low, iou


def _official_tensors(checkpoint: Path, sha256: str | None) -> Mapping[str, Tensor]:
    """Return the tensors of an official file, without executing code from it."""
    hint = "give the .pth file that Segment Anything publishes, or the right checksum"
    if not checkpoint.is_file():
        raise UsageError(f"no checkpoint at {checkpoint}", hint=hint)
    if sha256 is not None and (found := sha256_of(checkpoint)) != sha256.lower():
        raise UsageError(f"{checkpoint}: SHA-256 is {found}, expected {sha256.lower()}", hint=hint)
    try:
        tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{checkpoint} is not a checkpoint of tensors: {reason[0]}", hint=hint) from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        kind = type(tensors).__name__
        raise UsageError(f"{checkpoint} holds a {kind}, not named tensors", hint=hint)
    return tensors
