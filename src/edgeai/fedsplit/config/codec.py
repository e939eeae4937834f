"""Configs of the codecs: compression of smashed data and gradients, one codec per direction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class NoCodec(Config):
    """No compression."""

    kind: Literal["none"] = "none"


class Fp16Config(Config):
    """Half precision: half the bytes. Magnitudes above 65504 become infinite."""

    kind: Literal["fp16"] = "fp16"


class UniformConfig(Config):
    """Uniform quantization between minimum and maximum, with `bits` per value."""

    kind: Literal["uniform"] = "uniform"
    bits: int = Field(default=8, ge=1, le=16)
    """Bits per value."""
    per: Literal["tensor", "channel"] = "tensor"
    """One range for the whole tensor, or one per index of dimension 1; each range costs 8 bytes."""
    stochastic: bool = True
    """Stochastic (unbiased) rounding; otherwise to the nearest level."""


class TopkConfig(Config):
    """The k values of each sample with the largest magnitude, and their indices."""

    kind: Literal["topk"] = "topk"
    frac: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of values kept per sample, at least one value."""
    k: int | None = Field(default=None, ge=1)
    """Number of values kept per sample; empty uses frac."""


class RandtopkConfig(Config):
    """Randomized top-k: each kept value is one of the smaller values with probability alpha."""

    kind: Literal["randtopk"] = "randtopk"
    frac: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of values kept per sample, at least one value."""
    k: int | None = Field(default=None, ge=1)
    """Number of values kept per sample; empty uses frac."""
    alpha: float = Field(default=0.1, ge=0.0, le=1.0)
    """Probability that a kept value is not one of the largest."""


class FedliteConfig(Config):
    """Product quantization: sub-vectors are replaced by centroids that are fitted to each batch and sent with it."""

    kind: Literal["fedlite"] = "fedlite"
    num_subvectors: int = Field(ge=1)
    """Number of equal sub-vectors per sample."""
    groups: int = Field(default=1, ge=1)
    """Number of codebooks per batch; adjacent sub-vectors share one."""
    centroids: int = Field(default=16, ge=1, le=65536)
    """Number of entries per codebook."""
    iterations: int = Field(default=5, ge=1, le=100)
    """Iterations of k-means."""
    lam: float = Field(default=0.005, ge=0.0)
    """Gradient correction: the sender of z adds lam * (z - decoded z) to the gradient it receives."""


Direction = Annotated[
    NoCodec | Fp16Config | UniformConfig | TopkConfig | RandtopkConfig | FedliteConfig, Field(discriminator="kind")
]


class CodecConfig(Config):
    """Codecs of smashed data and gradients; labels and weights are never compressed."""

    up: Direction = NoCodec()
    """Codec from client to server."""
    down: Direction = NoCodec()
    """Codec from server to client. With top-k upwards, only the gradient of the kept values is sent, without indices:
    `down` encodes these values, and top-k as `down` has no further effect."""
    error_feedback: bool = False
    """Add the codec error of a gradient to the next one of the same name, row by row of the batch."""

    @model_validator(mode="after")
    def _fits_together(self) -> CodecConfig:
        if is_sparse(self.up) and self.down.kind == "fedlite":
            raise ValueError(
                f"down: fedlite cannot encode the gradient of values kept by {self.up.kind}; use none, fp16 or uniform"
            )
        if is_sparse(self.up) and isinstance(self.down, UniformConfig) and self.down.per == "channel":
            raise ValueError(
                f"down.per: the gradient of values kept by {self.up.kind} has no channels; use per: tensor"
            )
        if self.error_feedback and self.up.kind == "none" and self.down.kind == "none":
            raise ValueError("error_feedback: both codecs are none, so there is no error; choose a codec for down")
        return self


def is_sparse(cfg: Direction) -> bool:
    """Return whether a codec keeps only some values of a sample."""
    return isinstance(cfg, TopkConfig | RandtopkConfig)
