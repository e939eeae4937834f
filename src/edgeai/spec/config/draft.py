"""Configuration of drafters and draft trees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config


class NoDraft(Config):
    """Plain decoding."""

    kind: Literal["none"] = "none"


class NgramDraft(Config):
    """Prompt lookup: propose the tokens that followed an earlier occurrence of the last tokens. Needs no training."""

    kind: Literal["ngram"] = "ngram"
    max_ngram: int = Field(default=3, ge=1)
    """Longest suffix to look up, in tokens."""
    min_ngram: int = Field(default=1, ge=1)
    """Shortest suffix to look up, in tokens."""


class Eagle3Draft(Config):
    """A trained EAGLE-3 head."""

    kind: Literal["eagle3"] = "eagle3"
    path: Path | None = None
    """Checkpoint folder, run directory of `spec train`, or a head in the format of SGLang, vLLM, speculators or EAGLE;
    empty selects the head shipped for the target."""


Draft = Annotated[NoDraft | NgramDraft | Eagle3Draft, Field(discriminator="kind")]


class TreeConfig(Config):
    """The EAGLE-2 dynamic draft tree. Counts exclude the root, the newest token of the target."""

    nodes: int = Field(default=7, ge=1, le=512)
    """Draft nodes kept after re-ranking (EAGLE's `total_token` minus one)."""
    depth: int = Field(default=3, ge=1, le=32)
    """Draft levels below the root (EAGLE's `depth` plus one)."""
    top_k: int = Field(default=4, ge=1, le=64)
    """Children proposed per node, and nodes expanded per level."""
