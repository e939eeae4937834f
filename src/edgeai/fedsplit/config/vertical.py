"""Configs of the vertical methods: clients hold different parts of the same samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config


class VerticalConfig(Config):
    """Clients hold different features of the same samples; the server merges them (Ceballos et al. 2020)."""

    kind: Literal["vertical"] = "vertical"
    merge: Literal["concat", "sum", "mean", "max"] = "concat"
    """Combination of the clients' smashed data at the server."""


class FedSLConfig(Config):
    """Recurrent network split in time: each client of a chain holds a sequence segment (Abedi & Khan 2020)."""

    kind: Literal["fedsl"] = "fedsl"
    segments: int = Field(default=2, ge=2)
    """Clients per chain; num_clients must be a multiple of it."""
