"""Models as chains of named layers: a cut is named by the layer that it follows.

Every layer takes one tensor and returns one. Weights have torch's default start values, drawn in the order in which the
layers stand: seed torch before.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgeai.fedsplit.config.models import (
    Cnn1dConfig,
    CnnConfig,
    EcgConfig,
    GruConfig,
    LeNet5Config,
    MlpConfig,
    ModelConfig,
    NoPeekConfig,
    ResNet18Config,
    TransformerConfig,
)
from edgeai.fedsplit.models import images as pictures
from edgeai.fedsplit.models import sequences as series
from edgeai.fedsplit.models.custom import custom
from edgeai.fedsplit.models.input_shapes import picture_shape
from edgeai.fedsplit.models.resnet import resnet18
from edgeai.fedsplit.models.transformer import transformer


def build_model(cfg: ModelConfig, sample_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """The model that a config asks for, with fresh weights.

    Args:
        cfg: Which model.
        sample_shape: Of one input, without the batch.
        num_classes: Outputs.

    Raises:
        UsageError: The model cannot take inputs of this shape, or there is no such function of the user's.
        EdgeAIError: The user's function fails.
    """
    shape = tuple(sample_shape)
    if isinstance(cfg, MlpConfig):
        return pictures.mlp(shape, num_classes, cfg.hidden)
    if isinstance(cfg, LeNet5Config):
        return pictures.lenet5(picture_shape("lenet5", shape, least_px=12), num_classes)
    if isinstance(cfg, NoPeekConfig):
        return pictures.nopeek(picture_shape("nopeek", shape, least_px=6), num_classes, softmax=cfg.softmax)
    if isinstance(cfg, CnnConfig):
        least_px = 2 ** len(cfg.channels)
        found = picture_shape("cnn", shape, least_px=least_px)
        return pictures.cnn(found, num_classes, channels=cfg.channels, hidden=cfg.hidden, norm=cfg.norm)
    if isinstance(cfg, ResNet18Config):
        found = picture_shape("resnet18", shape, least_px=8)
        large = min(found[1:]) >= 64 if cfg.stem == "auto" else cfg.stem == "large"
        return resnet18(found, num_classes, width=cfg.width, norm=cfg.norm, large=large)
    if isinstance(cfg, Cnn1dConfig):
        return series.cnn1d(
            shape, num_classes, channels=cfg.channels, kernel=cfg.kernel, hidden=cfg.hidden, norm=cfg.norm
        )
    if isinstance(cfg, EcgConfig):
        return series.ecg(shape, num_classes, num_convs=cfg.num_convs)
    if isinstance(cfg, GruConfig):
        return series.gru(
            shape, num_classes, hidden=cfg.hidden, num_layers=cfg.num_layers, vocab=cfg.vocab, embed=cfg.embed
        )
    if isinstance(cfg, TransformerConfig):
        return transformer(cfg, shape, num_classes)
    return custom(cfg.path, cfg.options, shape, num_classes)
