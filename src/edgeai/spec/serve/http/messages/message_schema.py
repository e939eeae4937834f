"""Schema of the messages of a chat, and their form for chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgeai.spec.serve.answers.json_object import parse_object
from edgeai.spec.serve.http.messages.json_values import check_values


class TextPart(BaseModel):
    """Text part of a message."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str
    cache_control: Any = None
    """Accepted for compatibility with clients of other providers and ignored."""


def _check_arguments(value: str) -> str:
    parsed = parse_object(value or "{}")
    if parsed is None:
        raise ValueError("not a JSON object")
    check_values(parsed)
    return value


CallArgumentsText = Annotated[str, AfterValidator(_check_arguments)]
"""Arguments of an earlier call: a JSON object; the empty text stands for one without members."""


class CalledFunction(BaseModel):
    """Name and arguments of an earlier call."""

    model_config = ConfigDict(extra="ignore", strict=True)
    name: str = Field(min_length=1, max_length=256)
    arguments: CallArgumentsText


class ToolCall(BaseModel):
    """Earlier call of the assistant. Other fields, which clients copy from streams, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction

    def for_template(self) -> dict[str, Any]:
        """Return the call in the form that chat templates read: with the arguments as an object."""
        arguments = parse_object(self.function.arguments or "{}")
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


class ChatMessage(BaseModel):
    """One turn. Other fields, which clients copy from earlier answers, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    tool_call_id: str | None = Field(default=None, min_length=1, max_length=256)
    name: str | None = Field(default=None, max_length=256)
    """Name of the function whose result this is, otherwise found by `tool_call_id`; ignored for other roles."""
    reasoning: str | None = None
    reasoning_content: str | None = None
    """Earlier reasoning, under either name; the template decides whether the model reads it again."""

    @model_validator(mode="after")
    def _check_role(self) -> ChatMessage:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only messages of the assistant have tool_calls")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of a tool needs tool_call_id")
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.reasoning_text)):
            raise ValueError("content is required, except in messages of the assistant with tool calls")
        return self

    @property
    def text(self) -> str:
        """Text of all parts."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    @property
    def reasoning_text(self) -> str:
        """Earlier reasoning; empty without it."""
        return (self.reasoning or self.reasoning_content or "") if self.role == "assistant" else ""

    @property
    def has_tools(self) -> bool:
        """True if the message holds calls or the result of one."""
        return self.role == "tool" or bool(self.tool_calls)

    def for_template(self) -> dict[str, Any]:
        """Return the message in the form that chat templates read."""
        found: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": self.text}
        if self.tool_calls:
            found["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.reasoning_text:
            found["reasoning_content"] = self.reasoning_text
        if self.role == "tool":
            found["tool_call_id"] = self.tool_call_id
            if self.name:
                found["name"] = self.name
        return found


def messages_for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Return the messages in the form that chat templates read: some need the function's name beside its result."""
    found = [message.for_template() for message in messages]
    names: dict[str, str] = {}
    for message in found:
        for call in message.get("tool_calls", ()):
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool" and message["tool_call_id"] in names:
            message.setdefault("name", names[message["tool_call_id"]])
    return found
