"""Tags for the weights of auxiliary networks, so that one message can carry them beside the model's.

Weights of the model are sent under their names in the model. Those of another network are prefixed with its tag and a
slash, which no layer name contains: "conv1.weight", "head/1.weight".
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edgeai.fedsplit.cuts.weights import Weights


def tagged(tag: str, weights: Mapping[str, Tensor]) -> Weights:
    """Return weights with a tag before each name."""
    return {f"{tag}/{name}": value for name, value in weights.items()}


def untagged(tag: str, weights: Mapping[str, Tensor]) -> Weights:
    """Return the weights with this tag, under their names without it."""
    start = f"{tag}/"
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}


def model_weights(weights: Mapping[str, Tensor]) -> Weights:
    """Return the weights without a tag, which are those of the model."""
    return {name: value for name, value in weights.items() if "/" not in name}
