"""Configuration of `edgeai spec bench`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Draft, Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig


class BenchConfig(Config):
    """`edgeai spec bench`: compare plain and speculative decoding: same engine, dtype and prompts, interleaved runs."""

    verb: Literal["spec bench"] = "spec bench"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    """Drafter that is compared with plain decoding."""
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape; auto selects the tree with the highest predicted speed, from timings of this machine and the head's
    acceptance."""
    sampling: SamplingConfig = SamplingConfig()
    prompts: str = ""
    """Prompt file (JSONL in MT-Bench, GSM8K or ShareGPT format, or text lines); empty selects the built-in prompts."""
    max_prompts: int = Field(default=16, ge=1)
    """Number of prompts used, evenly spaced over the file."""
    max_turns: int = Field(default=1, ge=1)
    """Maximum number of user turns answered per conversation."""
    max_tokens: int = Field(default=128, ge=1)
    """Maximum number of tokens per answer."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of prompt plus answer, in tokens; capped at the model's own limit."""
    repeats: int = Field(default=3, ge=1)
    """Interleaved plain and speculative repetitions of the whole prompt set."""
    peers: bool = False
    """Also run transformers' generate and prompt lookup on the same prompts; greedy only."""
    peers_assistant: str = ""
    """With peers: a smaller model with the same tokenizer for transformers' assisted generation; empty skips it."""
