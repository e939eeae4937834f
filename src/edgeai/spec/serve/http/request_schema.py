"""Schema of the supported OpenAI requests, with strict validation.

An unknown argument is an error, as with OpenAI: a misspelled `temperature` must not be silently ignored. Unsupported
arguments that would change the answer are rejected by name; `ignored_fields.py` lists the arguments that are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edgeai.spec.serve.http.ignored_fields import NEUTRAL, REASONS, unsupported_field, without_ignored
from edgeai.spec.serve.http.messages.json_values import check_values
from edgeai.spec.serve.http.messages.message_schema import ChatMessage
from edgeai.spec.serve.http.messages.tool_schema import MAX_TOOLS, Function, NamedChoice, Tool, ToolChoice, check_choice
from edgeai.spec.serve.http.structured_output import ConstrainedRequest

MAX_CHOICES = 16
"""Most answers per request: `n` times the number of prompts."""
MAX_STOPS = 16


class StreamOptions(BaseModel):
    """Extra content of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    """Send a last chunk with the usage and no choices."""
    include_obfuscation: bool = False
    """Accepted for compatibility with OpenAI's clients and ignored."""
    include_speculation: bool = False
    """Extension: every chunk marks its accepted draft tokens."""


class StrictRequest(BaseModel):
    """Base of all requests: ignored fields are dropped, unknown and unsupported ones refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL
    """Unsupported fields of the endpoint, with the values that ask for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _drop_ignored(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        check_values(data)
        if name := unsupported_field(data, cls.NEUTRAL, cls.model_fields):
            raise PydanticCustomError(
                "unsupported",
                "'{name}' is not supported by this server{reason}",
                {"name": name, "reason": REASONS.get(name, "")},
            )
        return without_ignored(data, cls.NEUTRAL, cls.model_fields)


class GenerationRequest(StrictRequest, ConstrainedRequest):
    """Fields that chat and text completions share."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens generated; by default the rest of the context."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """0 is greedy; OpenAI's default is 1."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    """Number of most likely tokens kept; 0 and -1 keep all."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Tokens below this fraction of the highest probability are dropped."""
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    """The same seed gives the same answer, regardless of the other requests in the batch."""
    stop: str | list[str] | None = None
    """Stop texts: the answer ends before the first of them."""
    stop_token_ids: list[int] | None = Field(default=None, max_length=256)
    """Extension, as in vLLM: tokens that end the answer, besides the model's own."""
    return_token_ids: bool | None = None
    """Extension, as in vLLM: report the token ids of prompt and answer."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = None
    """Values added to logits, by token id."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    speculative: Literal["auto", "off"] = "auto"
    """Extension: off decodes plainly."""

    @field_validator("stop")
    @classmethod
    def _check_stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > MAX_STOPS:
            raise ValueError(f"at most {MAX_STOPS} stop texts")
        if not all(stops):
            raise ValueError("empty stop text")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _check_bias_keys(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value and not all(key.isascii() and key.isdigit() and len(key) < 10 for key in value):
            raise ValueError("keys must be token ids")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def options(self) -> StreamOptions:
        """Stream options, with defaults if none were given."""
        return self.stream_options or StreamOptions()


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    chat_template_kwargs: dict[str, Any] | None = None
    """Extension, as in vLLM: values for the chat template, such as enable_thinking."""
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    """By default auto: the model decides."""
    parallel_tool_calls: bool | None = None
    """False ignores everything after the first call, and forces exactly one if a call is forced."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_top_logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @model_validator(mode="after")
    def _check_tools(self) -> ChatRequest:
        check_choice([tool.function for tool in self.tools or ()], self.tool_choice)
        return self

    @property
    def functions(self) -> list[Function]:
        """Functions that the model may call; none with `tool_choice: none`."""
        return [] if self.tool_choice == "none" else [tool.function for tool in self.tools or ()]

    @property
    def callable_functions(self) -> list[Function]:
        """Functions that the answer may call: those shown to the model, or the one that is named."""
        if isinstance(self.tool_choice, NamedChoice):
            return [function for function in self.functions if function.name == self.tool_choice.function.name]
        return self.functions

    @property
    def forces_call(self) -> bool:
        """True if the answer has to be a call."""
        return self.names_function or self.tool_choice == "required"

    @property
    def names_function(self) -> bool:
        """True if the answer has to be one call of a named function."""
        return isinstance(self.tool_choice, NamedChoice)

    @property
    def allows_several_calls(self) -> bool:
        """True if an answer may have several calls."""
        return self.parallel_tool_calls is not False and not self.names_function

    @property
    def constraint_param(self) -> str | None:
        """Name of the field that constrains the answer; None for free text."""
        return "tool_choice" if self.forces_call else super().constraint_param

    @property
    def num_logprobs(self) -> int | None:
        """Requested alternatives per token; None without log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: text or token ids, without a chat template."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = Field(default=None, ge=0)
    """Most tokens generated; 0 needs `echo`. By default the rest of the context."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = None
    """Begin every answer with its prompt, with the log probabilities of its tokens if they are requested."""

    @model_validator(mode="after")
    def _check_max_tokens(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: 0 needs echo: true")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Prompts as a list."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [part for part in self.prompt if not isinstance(part, int)]

    @property
    def num_logprobs(self) -> int | None:
        """Requested alternatives per token; None without log probabilities."""
        return self.logprobs
