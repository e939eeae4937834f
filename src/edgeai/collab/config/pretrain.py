"""Configs of `edgeai collab pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgeai.collab.config.streams import StreamSource, StreetConfig
from edgeai.core.config import Config


class StreetNetConfig(Config):
    """Architecture sizes of a street net."""

    width: int = Field(default=128, ge=8, multiple_of=4)
    """Channels at stride 8; half of them at stride 4, a quarter at stride 2."""
    depth: int = Field(default=8, ge=1)
    """Residual blocks at stride 8."""
    separable: bool = True
    """Use depthwise-separable instead of full convolutions."""


class EdgePart(Config):
    """The edge net: small, and trained only on clear scenes with base looks."""

    kind: Literal["edge"] = "edge"
    net: StreetNetConfig = StreetNetConfig()


class WideScenes(Config):
    """Drift and new looks in the training scenes of the large models."""

    drift_frac: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of scenes with random drift."""
    max_level: float = Field(default=3.0, ge=0.0, le=3.0)
    """Maximum drift level."""
    new_looks_frac: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of generated scenes with new houses, cars and clothes."""


class CloudPart(WideScenes):
    """The cloud's semantic net: larger, and trained on drift and new looks."""

    kind: Literal["cloud"] = "cloud"
    net: StreetNetConfig = StreetNetConfig(separable=False)


class SamShapeConfig(Config):
    """Architecture sizes of sam-tiny, named as in the segment_anything package."""

    image_px: int = Field(default=192, ge=32)
    """Longer side of the input, to which frames are scaled; the shorter side is padded."""
    patch_px: int = Field(default=8, ge=4)
    """Side of a patch."""
    encoder_width: int = Field(default=160, ge=8)
    """Width of the image encoder."""
    encoder_depth: int = Field(default=8, ge=1)
    """Blocks of the image encoder."""
    encoder_heads: int = Field(default=5, ge=1)
    """Attention heads of the image encoder."""
    window: int = Field(default=8, ge=1)
    """Side of the attention windows, in patches; every fourth block attends to the whole image."""
    decoder_width: int = Field(default=96, ge=8, multiple_of=8)
    """Width of the mask decoder."""
    decoder_heads: int = Field(default=8, ge=1)
    """Attention heads of the mask decoder."""


class SamPart(WideScenes):
    """sam-tiny, with the recipe of Segment Anything (arXiv 2304.02643, appendix A) on regions of street scenes."""

    kind: Literal["sam"] = "sam"
    net: SamShapeConfig = SamShapeConfig()
    prompts: int = Field(default=8, ge=1)
    """Number of prompted regions per image, half by a point, half by a box."""
    min_region_px: int = Field(default=16, ge=1)
    """Minimum area of a prompted region."""
    box_noise_frac: float = Field(default=0.1, ge=0.0)
    """Standard deviation of a box corner as a share of the box side (value of the paper), at most 20 px."""
    focal_weight: float = Field(default=20.0, ge=0.0)
    """Weight of the focal loss relative to the dice loss (20:1 in the paper)."""
    naming_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the encoder's classification loss (ours; 0 disables it)."""


class PretrainOptimConfig(Config):
    """AdamW with linear warm-up, then cosine decay to zero."""

    lr: float = Field(default=1e-3, gt=0.0)
    """Peak learning rate."""
    warmup_frac: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps with linear warm-up."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    """Decoupled weight decay."""
    clip_norm: float = Field(default=1.0, gt=0.0)
    """Maximum norm of the gradient."""
    batch: int = Field(default=8, ge=1)
    """Number of scenes per step."""


class PretrainConfig(Config):
    """`edgeai collab pretrain`: train the edge net, the cloud net or sam-tiny on random scenes."""

    verb: Literal["collab pretrain"] = "collab pretrain"
    part: Annotated[EdgePart | CloudPart | SamPart, Field(discriminator="kind")] = EdgePart()
    """Net to train."""
    source: StreamSource = StreetConfig()
    """Source of the scenes: the generated street, or any labeled source."""
    optim: PretrainOptimConfig = PretrainOptimConfig()
    steps: int = Field(default=3000, ge=1)
    """Optimizer steps."""
    val_scenes: int = Field(default=64, ge=1)
    """Number of validation scenes; their seeds are disjoint from those of the training scenes."""
    val_every: int = Field(default=250, ge=1)
    """Steps between validations (and checkpoints)."""
    init_from: Literal["shipped"] | Path | None = None
    """Checkpoint folder or run with the initial weights; shipped: the weights shipped with edgeai."""
    seed: int = 0
    """Seed of initial weights and scenes."""
