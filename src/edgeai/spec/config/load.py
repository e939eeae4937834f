"""Configuration of `edgeai spec load`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.spec.config.serve import ServeConfig


class LoadConfig(Config):
    """`edgeai spec load`: load-test a server on this machine with concurrent clients, with and without speculation."""

    verb: Literal["spec load"] = "spec load"
    serve: ServeConfig = ServeConfig(port=0)
    """Server under test; started before the test and stopped after it."""
    clients: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 4, 16), min_length=1)
    """Numbers of concurrent clients, one round each."""
    requests: int = Field(default=24, ge=1)
    """Requests per round, divided among its clients; at least two per client."""
    prompts: str = ""
    """Prompt file; empty selects the built-in prompts."""
    max_prompts: int = Field(default=12, ge=1)
    """Number of different prompts."""
    max_tokens: int = Field(default=64, ge=2)
    """Maximum number of tokens per answer."""
    memory_requests: int = Field(default=500, ge=0)
    """Short requests at the end, during which the server's memory use must stay constant."""
