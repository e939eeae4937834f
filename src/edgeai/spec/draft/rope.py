"""Rotary position embedding of draft heads whose frequencies differ from the target's.

Heads trained by edgeai use the rotary embedding of their target. Others often do not: the EAGLE repository's training
config for Llama 3.1 has no base frequency, which means 10000, while the target has 500000 and a scaling. A wrong base
lowers acceptance without raising an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.spec.target.attention import rotary_table

DEFAULT_THETA = 10000.0  # default of all loaders for configs without one
_TABLE_TOLERANCE = 2.0**-6  # tables are stored in the target's number format; other bases differ by up to 2


@dataclass(frozen=True)
class Rope:
    """Base frequency and scaling, named as in Hugging Face configs."""

    theta: float
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192
    """Llama 3 only: context length before scaling."""

    def frequencies(self, head_dim: int) -> Tensor:
        """Return the angle per position of each pair of dimensions [head_dim / 2].

        Source of `llama3`: the reference implementation of Llama 3.1.
        """
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
        base = 1.0 / (self.theta**exponents)
        if self.kind == "linear":
            return base / self.factor
        if self.kind == "llama3":
            turns = self.original_positions * base / (2 * math.pi)  # rotations within the original context
            share = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
            share = share.clamp(0.0, 1.0)  # high frequencies stay, low ones are stretched
            return share * base + (1 - share) * base / self.factor
        return base

    def tables(self, head_dim: int, num_positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosine and sine tables as in `attention.rotary_table`, each [num_positions, head_dim]."""
        return _tables(self, head_dim, num_positions, dtype)

    def equals(self, tables: tuple[Tensor, Tensor]) -> bool:
        """Return whether a target's tables are the same, up to their rounding."""
        num_positions, head_dim = min(4096, tables[0].shape[0]), tables[0].shape[1]
        ours = self.tables(head_dim, num_positions, torch.float32)
        return all(
            bool(((mine - theirs[:num_positions].cpu().float()).abs() <= _TABLE_TOLERANCE).all())
            for mine, theirs in zip(ours, tables, strict=True)
        )

    def to_config(self) -> dict[str, Any]:
        """Return the `rope_theta` and `rope_scaling` entries of a config.json."""
        scaling: dict[str, Any] | None = None
        if self.kind == "linear":
            scaling = {"rope_type": "linear", "factor": self.factor}
        elif self.kind == "llama3":
            scaling = {
                "rope_type": "llama3",
                "factor": self.factor,
                "low_freq_factor": self.low_freq_factor,
                "high_freq_factor": self.high_freq_factor,
                "original_max_position_embeddings": self.original_positions,
            }
        return {"rope_theta": self.theta, "rope_scaling": scaling}


@lru_cache(maxsize=4)  # drafting along many texts needs them for each text
def _tables(rope: Rope, head_dim: int, num_positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return rotary_table(rope.frequencies(head_dim), 1.0, num_positions, dtype)


def rope_of(config: Mapping[str, Any], *, of: str) -> Rope:
    """Return the rotary embedding of a config.json with old (`rope_theta`) or new (`rope_parameters`) keys.

    Args:
        config: Content of the config.json of a model or a head.
        of: Name of the model or head for the error message.

    Raises:
        UsageError: The scaling is not supported.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(given.get("rope_theta") or config.get("rope_theta") or DEFAULT_THETA)
    kind = str(given.get("rope_type") or given.get("type") or "default")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, "linear", float(given["factor"]))
    if kind == "llama3":
        return Rope(
            theta,
            "llama3",
            float(given["factor"]),
            float(given["low_freq_factor"]),
            float(given["high_freq_factor"]),
            int(given["original_max_position_embeddings"]),
        )
    raise UsageError(
        f"{of} scales its positions by '{kind}'; known are default, linear and llama3",
        hint="a head without such a scaling is needed",
    )
