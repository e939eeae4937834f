"""Configs of the codecs: how smashed data and gradients are packed for the link, one codec a direction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class NoCodec(Config):
    """Tensors cross as they are."""

    kind: Literal["none"] = "none"


class Fp16Config(Config):
    """Half precision: half the bytes. Beyond 65504 a value becomes infinite."""

    kind: Literal["fp16"] = "fp16"


class UniformConfig(Config):
    """Evenly spaced levels between the least and the largest value, `bits` a value."""

    kind: Literal["uniform"] = "uniform"
    bits: int = Field(8, ge=1, le=16)
    per: Literal["tensor", "channel"] = "tensor"
    """One range for the whole tensor, or one for each index of dimension 1; each range costs 8 bytes."""
    stochastic: bool = True
    """Round up or down by chance, so that the mean is right; else to the nearest level."""


class TopkConfig(Config):
    """The k values of each sample that are largest by magnitude, and where they were."""

    kind: Literal["topk"] = "topk"
    frac: float = Field(0.1, gt=0.0, le=1.0)
    """Share of a sample's values that is kept, at least one."""
    k: int | None = Field(None, ge=1)
    """Values kept of each sample; empty takes frac."""


class RandtopkConfig(Config):
    """Top-k, but each place goes to one of the smaller values with chance alpha."""

    kind: Literal["randtopk"] = "randtopk"
    frac: float = Field(0.1, gt=0.0, le=1.0)
    """Share of a sample's values that is kept, at least one."""
    k: int | None = Field(None, ge=1)
    """Values kept of each sample; empty takes frac."""
    alpha: float = Field(0.1, ge=0.0, le=1.0)


class FedliteConfig(Config):
    """Product quantisation: sub-vectors are replaced by centroids that are fitted to each batch and sent along."""

    kind: Literal["fedlite"] = "fedlite"
    num_subvectors: int = Field(ge=1)
    """Pieces of equal length that a sample is cut into."""
    groups: int = Field(1, ge=1)
    """Neighbouring pieces share a codebook: so many codebooks a batch."""
    centroids: int = Field(16, ge=1, le=65536)
    """Entries of a codebook."""
    iterations: int = Field(5, ge=1, le=100)
    """Rounds of k-means."""
    lam: float = Field(0.005, ge=0.0)
    """Gradient correction: the sender of z adds lam * (z - what arrived of z) to the gradient that comes back."""


Direction = Annotated[
    NoCodec | Fp16Config | UniformConfig | TopkConfig | RandtopkConfig | FedliteConfig, Field(discriminator="kind")
]


class CodecConfig(Config):
    """What is done to smashed data and gradients before they cross; labels and weights are never touched."""

    up: Direction = NoCodec()
    """From the client to the server."""
    down: Direction = NoCodec()
    """From the server to the client. After top-k only the gradient of the kept values comes back, without indices:
    then `down` says how these values are coded, and top-k adds nothing."""
    error_feedback: bool = False
    """Add what the codec took from a gradient to the next one of the same name. Rows are places in the batch."""

    @model_validator(mode="after")
    def _fits_together(self) -> CodecConfig:
        if is_sparse(self.up) and self.down.kind == "fedlite":
            raise ValueError(
                f"down: fedlite cannot code what {self.up.kind} leaves of a gradient; take none, fp16 or uniform"
            )
        if is_sparse(self.up) and isinstance(self.down, UniformConfig) and self.down.per == "channel":
            raise ValueError(f"down.per: what {self.up.kind} leaves of a gradient has no channels; take per: tensor")
        if self.error_feedback and self.up.kind == "none" and self.down.kind == "none":
            raise ValueError("error_feedback: there is no error, as both codecs are none; choose a codec for down")
        return self


def is_sparse(cfg: Direction) -> bool:
    """Keeps some values of a sample and drops the rest."""
    return isinstance(cfg, TopkConfig | RandtopkConfig)
