"""The protocol of the models that `collab pretrain` trains.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from edgeai.collab.pretrain.scenes import LabeledScene


class Part(Protocol):
    """A model with its loss, validation and files."""

    module: nn.Module

    def loss(self, scenes: Sequence[LabeledScene], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the differentiable loss [] of a batch, and values to log."""

    def validate(self, scenes: Sequence[LabeledScene]) -> dict[str, float]:
        """Return quality metrics; the best checkpoint has the highest "score"."""

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> str:
        """Save the weights, and return their digest as stored."""
