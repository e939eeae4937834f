"""Configs of models: one class each, distinguished by `kind`. Each model is a chain of named layers to cut between."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

Norm = Literal["group", "batch", "none"]


class LeNet5Config(Config):
    """LeNet-5 with ReLU and max-pooling: layers conv1, conv2, fc1, fc2, out (61,706 parameters on 28x28)."""

    kind: Literal["lenet5"] = "lenet5"


class CnnConfig(Config):
    """Small convolutional network: layers conv1 ..., fc, out."""

    kind: Literal["cnn"] = "cnn"
    channels: tuple[int, ...] = Field(default=(16, 32), min_length=1)
    """Channels of each 3x3 convolution; each is followed by normalization, ReLU and 2x2 max-pooling."""
    hidden: int = Field(default=64, ge=1)
    """Width of the layer fc."""
    norm: Norm = "group"
    """batch keeps running statistics, which break the bitwise equality of methods."""


class ResNet18Config(Config):
    """ResNet-18 (He et al. 2016): layers stem, block1 to block8, pool, out."""

    kind: Literal["resnet18"] = "resnet18"
    norm: Literal["group", "batch"] = "group"
    """batch keeps running statistics, which break the bitwise equality of methods."""
    stem: Literal["auto", "small", "large"] = "auto"
    """small: 3x3 convolution; large: 7x7 with stride 2 and pooling; auto uses large from 64 pixels on."""
    width: int = Field(default=64, ge=4, multiple_of=4)
    """Channels of the first blocks; 64 in the paper."""


class MlpConfig(Config):
    """Fully connected layers: fc1 ..., out."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = Field(default=(128, 64), min_length=1)
    """Width of each hidden layer."""


class Cnn1dConfig(Config):
    """Convolutions over time: layers conv1 ..., fc, out; inputs [C, T] or [T]."""

    kind: Literal["cnn1d"] = "cnn1d"
    channels: tuple[int, ...] = Field(default=(32, 64), min_length=1)
    """Channels of each convolution; each is followed by normalization, ReLU and max-pooling by 2."""
    kernel: int = Field(default=5, ge=1)
    """Kernel size of the convolutions."""
    hidden: int = Field(default=64, ge=1)
    """Width of the layer fc."""
    norm: Norm = "group"
    """batch keeps running statistics, which break the bitwise equality of methods."""


class EcgConfig(Config):
    """1-D network for heartbeats (Abuadbba et al. 2020): layers conv1, conv2, pool2, conv3 ..., fc, out."""

    kind: Literal["ecg"] = "ecg"
    num_convs: int = Field(default=2, ge=2, le=8)
    """Number of convolutions."""


class NoPeekConfig(Config):
    """MNIST network (Titcombe et al. 2021): layers conv1, conv2, fc1 (500, tanh: its cut), fc2, out."""

    kind: Literal["nopeek"] = "nopeek"
    softmax: bool = False
    """End with a softmax although the loss has one, as in the published code."""


class GruConfig(Config):
    """Recurrent net: layers embed (tokens only), gru1 ..., last, out; inputs [T, F], images by row, or tokens [T]."""

    kind: Literal["gru"] = "gru"
    hidden: int = Field(default=64, ge=1)
    """Width of the recurrent layers."""
    num_layers: int = Field(default=1, ge=1)
    """Number of recurrent layers."""
    vocab: int | None = Field(default=None, ge=2)
    """Vocabulary size; null for numeric inputs."""
    embed: int = Field(default=32, ge=1)
    """Width of a token embedding."""


class TransformerConfig(Config):
    """Transformer: layers embed, block1 ..., head; inputs are tokens [T], image patches, or steps [T, F]."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(default=64, ge=2)
    """Hidden size."""
    num_layers: int = Field(default=2, ge=1)
    """Number of blocks."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of the MLP relative to the hidden size."""
    vocab: int | None = Field(default=None, ge=2)
    """Vocabulary size; null for numeric inputs."""
    patch: int = Field(default=4, ge=1)
    """Images: edge length of a patch in pixels."""
    causal: bool = False
    """Use causal attention."""
    read: Literal["mean", "last", "all"] = "mean"
    """Input of the head: mean over all positions, the last one, or every position (language model)."""

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        return self


class CustomConfig(Config):
    """User-defined model: a function that returns a torch.nn.Sequential."""

    kind: Literal["custom"] = "custom"
    path: str
    """The function, as net.py:build or package.module:build; called with sample_shape, num_classes and the options."""
    options: dict[str, int | float | str | bool | list[int] | list[float] | list[str] | None] = Field(
        default_factory=dict
    )
    """Additional arguments of the function."""


ModelConfig = Annotated[
    LeNet5Config
    | CnnConfig
    | ResNet18Config
    | MlpConfig
    | Cnn1dConfig
    | EcgConfig
    | NoPeekConfig
    | GruConfig
    | TransformerConfig
    | CustomConfig,
    Field(discriminator="kind"),
]
