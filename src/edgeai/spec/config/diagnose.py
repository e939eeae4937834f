"""Configuration of `edgeai spec diagnose`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig


class DiagnoseConfig(Config):
    """`edgeai spec diagnose`: compare tree acceptance with greedy-chain acceptance, and the head's calibration."""

    verb: Literal["spec diagnose"] = "spec diagnose"
    target: TargetConfig = TargetConfig()
    draft: Eagle3Draft = Eagle3Draft()
    tree: TreeConfig = TreeConfig()
    """Draft tree of every cycle; the greedy chain has the same depth."""
    sampling: SamplingConfig = SamplingConfig()
    prompts: str = ""
    """Prompt file in the format of MT-Bench, GSM8K, ShareGPT, OpenAI, HumanEval, Alpaca or Dolly (.jsonl, .json,
    .parquet), or text lines; empty selects the built-in prompts."""
    max_prompts: int = Field(default=16, ge=1)
    """Number of prompts used, evenly spaced over the file; only first turns are answered."""
    max_tokens: int = Field(default=128, ge=1)
    """Maximum number of tokens per answer."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of prompt plus answer, in tokens; capped at the model's own limit."""
