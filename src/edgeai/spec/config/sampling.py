"""Configuration of sampling from the target."""

from __future__ import annotations

from pydantic import Field

from edgeai.core.config import Config


class SamplingConfig(Config):
    """Sampling from the target's distribution; temperature 0 is greedy."""

    temperature: float = Field(default=0.0, ge=0.0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Keep the smallest set of tokens with at least this probability mass."""
    top_k: int = Field(default=0, ge=0)
    """Keep this many of the most likely tokens; 0 keeps all."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    """Drop tokens whose probability is below this share of the most likely token's."""
    seed: int = 0
    """Seed of the request's random number generator."""
