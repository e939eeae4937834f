"""Configuration of `edgeai spec generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Draft, Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig


class GenerateConfig(Config):
    """`edgeai spec generate`: answer prompts with plain or speculative decoding."""

    verb: Literal["spec generate"] = "spec generate"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    """Drafter; "none" decodes plainly."""
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape; auto selects the tree with the highest predicted speed, from timings of this machine and the head's
    acceptance."""
    sampling: SamplingConfig = SamplingConfig()
    system: str = ""
    """System prompt of prompts that bring none; empty keeps the chat template's default."""
    json_schema: Path | None = None
    """File with a JSON schema that every answer follows; needs the extra `structured`."""
    max_tokens: int = Field(default=256, ge=1)
    """Maximum number of tokens generated per prompt."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of prompt plus answer, in tokens; capped at the model's own limit."""
