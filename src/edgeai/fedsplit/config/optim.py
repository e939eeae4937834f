"""Config of the optimizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config


class OptimConfig(Config):
    """Optimizer of every model part."""

    kind: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(default=0.05, gt=0)
    """Learning rate."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay."""
