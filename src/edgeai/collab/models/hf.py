"""Semantic-segmentation models of the transformers library."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeai.collab.models.torch_model import score_tensor
from edgeai.core.errors import UsageError


class HfNet(nn.Module):
    """A transformers model that returns class scores."""

    def __init__(self, inner: nn.Module, where: str) -> None:
        super().__init__()
        self.inner = inner
        self.where = where

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return class scores [B,M,.,.] without features."""
        return score_tensor(self.inner(pixel_values=x).logits, self.where), None


def load_hf(model: str, device: str) -> tuple[HfNet, tuple[str, ...]]:
    """Load a model from a local folder or by Hugging Face id (from the cache, or downloaded).

    Returns:
        The net in evaluation mode and its classes.

    Raises:
        UsageError: The model does not exist, or is not a semantic-segmentation model.
    """
    from transformers import AutoModelForSemanticSegmentation

    try:
        inner: Any = AutoModelForSemanticSegmentation.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(
            f"cannot load {model} as a semantic-segmentation model: {reason[0]}",
            hint="give a local folder with config.json and model.safetensors, or the id of such a model",
        ) from None
    labels = inner.config.id2label
    return HfNet(inner.to(device).eval(), model), tuple(str(labels[i]) for i in range(len(labels)))
