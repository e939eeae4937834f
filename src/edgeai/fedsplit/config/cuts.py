"""Configs of cuts: fixed layers, or a policy that chooses each client's cut before every round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config

Cut = str | int
"""The layer that a cut follows: its name, or its number from 1."""


class AresCut(Config):
    """Choose each client's cut by its expected time and energy before every round (ARES)."""

    kind: Literal["ares"] = "ares"
    time_weight: float = Field(default=1.0, ge=0, le=1)
    """lambda: weight of time; energy has weight 1 - lambda."""


class FedAdaptCut(Config):
    """Groups of similar clients learn their cut from measured round times (FedAdapt)."""

    kind: Literal["fedadapt"] = "fedadapt"
    groups: int = Field(default=2, ge=1)
    """Number of client groups."""
    explore_frac: float = Field(default=0.2, ge=0, le=1)
    """Probability of a random cut once all cuts were tried."""


AdaptiveCut = Annotated[AresCut | FedAdaptCut, Field(discriminator="kind")]
