"""Schema of POST /v1/responses, and the chat request that it stands for.

Source: OpenAI API reference, responses.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from edgeai.spec.serve.http.ignored_fields import NEUTRAL_IN_RESPONSES
from edgeai.spec.serve.http.messages.tool_schema import MAX_TOOLS, Function, ToolName
from edgeai.spec.serve.http.request_schema import ChatRequest, StrictRequest
from edgeai.spec.serve.http.responses.input_items import Item, chat_messages
from edgeai.spec.serve.http.structured_output import TextFormats

_SHARED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "speculative",
    "chat_template_kwargs",
    "parallel_tool_calls",
)


class FunctionTool(Function):
    """A function, without the level that tools of chat completions have."""

    type: Literal["function"]


class NamedFunction(BaseModel):
    """`tool_choice` of one function."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["function"]
    name: ToolName


class ResponseStreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_obfuscation: bool = False
    """Accepted for compatibility with OpenAI's clients and ignored."""


class ReasoningOptions(BaseModel):
    """Options of the reasoning, which the model's chat template decides: `chat_template_kwargs` sets them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    effort: Literal["none"] | None = None
    summary: None = None
    generate_summary: None = None


class TextOptions(BaseModel):
    """Options of the text."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: TextFormats | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(StrictRequest):
    """POST /v1/responses."""

    NEUTRAL: ClassVar = NEUTRAL_IN_RESPONSES
    model: str
    input: str | list[Item] = Field(min_length=1)
    instructions: str | None = None
    """System message before the input."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """Most tokens generated, reasoning included; by default the rest of the context."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    metadata: dict[str, str] | None = None
    """Returned in the response."""
    speculative: Literal["auto", "off"] = "auto"
    _chat: ChatRequest = PrivateAttr()

    @model_validator(mode="after")
    def _convert(self) -> ResponsesRequest:
        try:
            self._chat = ChatRequest.model_validate(self._chat_body())
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return self

    @property
    def chat(self) -> ChatRequest:
        """The same request as a chat completion."""
        return self._chat

    @property
    def constraint_param(self) -> str | None:
        """Name of the field that constrains the answer; None for free text."""
        param = self._chat.constraint_param
        return "text.format" if param == "response_format" else param

    @property
    def format(self) -> dict[str, Any]:
        """Format of the text, as requested."""
        if self.text is None or self.text.format is None:
            return {"type": "text"}
        return self.text.format.model_dump(by_alias=True)

    def _chat_body(self) -> dict[str, Any]:
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        user = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else chat_messages(self.input)
        choice: Any = self.tool_choice
        if isinstance(choice, NamedFunction):
            choice = {"type": "function", "function": {"name": choice.name}}
        tools = [
            {"type": "function", "function": tool.model_dump(exclude={"type"}, exclude_unset=True)}
            for tool in self.tools or ()
        ]
        form = self.format
        if form["type"] == "json_schema":
            form = {"type": form.pop("type"), "json_schema": form}
        return {
            **{name: getattr(self, name) for name in _SHARED},
            "model": self.model,
            "messages": [*system, *user],
            "max_completion_tokens": self.max_output_tokens,
            "tools": tools or None,
            "tool_choice": choice,
            "response_format": form,
            "stream": self.stream,
        }
