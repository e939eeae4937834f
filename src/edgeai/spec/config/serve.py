"""Configuration of `edgeai spec serve`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Draft, Eagle3Draft, TreeConfig
from edgeai.spec.config.target import TargetConfig

ToolParser = Literal["auto", "hermes", "llama3", "mistral", "none"]
ReasoningParser = Literal["auto", "think", "none"]


class ServeConfig(Config):
    """`edgeai spec serve`: serve an OpenAI-compatible API with speculative decoding."""

    verb: Literal["spec serve"] = "spec serve"
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    """Drafter; "none" decodes plainly."""
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape; auto selects one for every batch, from timings of this machine and the running acceptance."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 accepts other machines, in which case set an API key."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 selects a free port."""
    name: str = ""
    """Model name in the API; empty selects the target's name."""
    slots: int = Field(default=16, ge=1, le=256)
    """Requests processed at once; fewer if kv_budget_mib limits them."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of prompt plus answer, in tokens; capped at the model's own limit."""
    kv_budget_mib: float = Field(default=2048.0, gt=0.0)
    """Memory for the KV cache, reserved at start and never exceeded."""
    queue: int = Field(default=64, ge=0)
    """Requests that may wait for a slot; further ones are rejected with status 429."""
    prompt_chunk: int = Field(default=256, ge=1)
    """Maximum number of prompt tokens processed per cycle, so that a long prompt does not stall other requests."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    """Maximum size of a request body."""
    drain_s: float = Field(default=30.0, ge=0.0)
    """Time that running requests have to finish after SIGTERM or Ctrl-C."""
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")], ...] = ()
    """Origins whose web pages may call the API, such as http://localhost:3000; "*" allows all."""
    tool_parser: ToolParser = "auto"
    """Format of the model's tool calls: hermes (also Qwen), llama3 or mistral; auto recognizes it by the chat template;
    none refuses tools."""
    reasoning_parser: ReasoningParser = "auto"
    """think splits off the text between <think> and </think> as `reasoning`; auto does so if the chat template contains
    these tags; none leaves it in the content."""
    log_prompts: bool = False
    """Write the text of every request to the run's log.txt."""
