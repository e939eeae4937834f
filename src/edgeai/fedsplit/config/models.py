"""Configs of models: one class each, told apart by `kind`. All are chains of named layers, between which to cut."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

Norm = Literal["group", "batch", "none"]


class LeNet5Config(Config):
    """LeNet-5 with ReLU and max-pooling: layers conv1, conv2, fc1, fc2, out (61,706 parameters on 28x28)."""

    kind: Literal["lenet5"] = "lenet5"


class CnnConfig(Config):
    """A small convolutional net: layers conv1 ..., fc, out."""

    kind: Literal["cnn"] = "cnn"
    channels: tuple[int, ...] = Field((16, 32), min_length=1)
    """Channels of each 3x3 convolution; each is followed by normalisation, ReLU and 2x2 max-pooling."""
    hidden: int = Field(64, ge=1)
    """Width of the layer fc."""
    norm: Norm = "group"
    """batch keeps running statistics, which break the equality of methods."""


class ResNet18Config(Config):
    """ResNet-18 (He et al. 2016): layers stem, block1 to block8, pool, out."""

    kind: Literal["resnet18"] = "resnet18"
    norm: Literal["group", "batch"] = "group"
    """batch keeps running statistics, which break the equality of methods."""
    stem: Literal["auto", "small", "large"] = "auto"
    """small: 3x3 convolution; large: 7x7 with stride 2 and pooling; auto takes large from 64 pixels on."""
    width: int = Field(64, ge=4, multiple_of=4)
    """Channels of the first blocks; 64 in the paper."""


class MlpConfig(Config):
    """Fully connected layers: fc1 ..., out."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = Field((128, 64), min_length=1)


class Cnn1dConfig(Config):
    """Convolutions over time: layers conv1 ..., fc, out; inputs [C, T] or [T]."""

    kind: Literal["cnn1d"] = "cnn1d"
    channels: tuple[int, ...] = Field((32, 64), min_length=1)
    """Channels of each convolution; each is followed by normalisation, ReLU and max-pooling by 2."""
    kernel: int = Field(5, ge=1)
    hidden: int = Field(64, ge=1)
    norm: Norm = "group"


class EcgConfig(Config):
    """The 1-D net for heart beats of Abuadbba et al. 2020: layers conv1, conv2, pool2, conv3 ..., fc, out."""

    kind: Literal["ecg"] = "ecg"
    num_convs: int = Field(2, ge=2, le=8)


class NoPeekConfig(Config):
    """The MNIST net of Titcombe et al. 2021: layers conv1, conv2, fc1 (500, tanh: its cut), fc2, out."""

    kind: Literal["nopeek"] = "nopeek"
    softmax: bool = False
    """End with a softmax although the loss has one too, as the published code does."""


class GruConfig(Config):
    """A recurrent net: layers embed (of tokens), gru1 ..., last, out; inputs [T, F], pictures by row, or tokens [T]."""

    kind: Literal["gru"] = "gru"
    hidden: int = Field(64, ge=1)
    num_layers: int = Field(1, ge=1)
    vocab: int | None = Field(None, ge=2)
    """Number of tokens; null for inputs that are numbers."""
    embed: int = Field(32, ge=1)
    """Width of a token."""


class TransformerConfig(Config):
    """A transformer: layers embed, block1 ..., head; inputs are tokens [T], patches of a picture, or steps [T, F]."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(64, ge=2)
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(4, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    vocab: int | None = Field(None, ge=2)
    """Number of tokens; null for inputs that are numbers."""
    patch: int = Field(4, ge=1)
    """Pictures: edge of a patch in pixels."""
    causal: bool = False
    """Positions see only what lies before them."""
    read: Literal["mean", "last", "all"] = "mean"
    """What the head sees: the mean of all positions, the last one, or each (a language model)."""

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is no multiple of num_heads {self.num_heads}")
        return self


class CustomConfig(Config):
    """A model of your own: a function that returns a torch.nn.Sequential."""

    kind: Literal["custom"] = "custom"
    path: str
    """Where it is: net.py:build or package.module:build; called with sample_shape, num_classes and the options."""
    options: dict[str, int | float | str | bool | list[int] | list[float] | list[str] | None] = Field(
        default_factory=dict
    )
    """Further arguments of the function."""


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
