"""Configuration of `edgeai spec chat`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.draft import Draft, Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig


class ChatConfig(Config):
    """`edgeai spec chat`: chat with a model in the terminal, loaded here or on a running server."""

    verb: Literal["spec chat"] = "spec chat"
    url: str = ""
    """Address of a `spec serve` server, such as http://127.0.0.1:8000; empty loads the model in this process."""
    target: TargetConfig = TargetConfig()
    draft: Draft = Eagle3Draft()
    """Drafter; "none" decodes plainly."""
    tree: TreeConfig | Literal["auto"] = "auto"
    """Tree shape; auto selects one for every batch, from timings of this machine and the running acceptance."""
    sampling: SamplingConfig = SamplingConfig(temperature=0.7, top_p=0.95)
    system: str = ""
    """System message; empty keeps the chat template's default."""
    max_tokens: int = Field(default=512, ge=1)
    """Maximum number of tokens per answer."""
    context: int = Field(default=2048, ge=8)
    """Maximum length of the conversation, in tokens."""
