"""Build the model that a config names: a sequence of named layers; a cut is named after the layer before it.

Every layer takes one tensor and returns one. Weights have torch's default initialization, drawn in layer order: seed
torch first.
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
from edgeai.fedsplit.models import images, sequences
from edgeai.fedsplit.models.custom import custom
from edgeai.fedsplit.models.input_shapes import image_shape
from edgeai.fedsplit.models.resnet import resnet18
from edgeai.fedsplit.models.transformer import transformer


def build_model(cfg: ModelConfig, sample_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Return a model with freshly initialized weights.

    Args:
        cfg: Kind of model and its options.
        sample_shape: Shape of one input, without the batch axis.
        num_classes: Number of outputs.

    Raises:
        UsageError: The model cannot take inputs of this shape, or the user's function does not exist.
        EdgeAIError: The user's function fails.
    """
    shape = tuple(sample_shape)
    if isinstance(cfg, MlpConfig):
        return images.mlp(shape, num_classes, cfg.hidden)
    if isinstance(cfg, LeNet5Config):
        return images.lenet5(image_shape("lenet5", shape, least_px=12), num_classes)
    if isinstance(cfg, NoPeekConfig):
        return images.nopeek(image_shape("nopeek", shape, least_px=6), num_classes, softmax=cfg.softmax)
    if isinstance(cfg, CnnConfig):
        least_px = 2 ** len(cfg.channels)
        found = image_shape("cnn", shape, least_px=least_px)
        return images.cnn(found, num_classes, channels=cfg.channels, hidden=cfg.hidden, norm=cfg.norm)
    if isinstance(cfg, ResNet18Config):
        found = image_shape("resnet18", shape, least_px=8)
        large = min(found[1:]) >= 64 if cfg.stem == "auto" else cfg.stem == "large"
        return resnet18(found, num_classes, width=cfg.width, norm=cfg.norm, large=large)
    if isinstance(cfg, Cnn1dConfig):
        return sequences.cnn1d(
            shape, num_classes, channels=cfg.channels, kernel=cfg.kernel, hidden=cfg.hidden, norm=cfg.norm
        )
    if isinstance(cfg, EcgConfig):
        return sequences.ecg(shape, num_classes, num_convs=cfg.num_convs)
    if isinstance(cfg, GruConfig):
        return sequences.gru(
            shape, num_classes, hidden=cfg.hidden, num_layers=cfg.num_layers, vocab=cfg.vocab, embed=cfg.embed
        )
    if isinstance(cfg, TransformerConfig):
        return transformer(cfg, shape, num_classes)
    return custom(cfg.path, cfg.options, shape, num_classes)
