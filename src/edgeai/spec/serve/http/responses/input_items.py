"""Schema of the input items of /v1/responses, and the chat that they stand for.

Source: OpenAI API reference, responses, `input`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from edgeai.spec.serve.http.messages.message_schema import CallArgumentsText


class _Item(BaseModel):
    """Base of all items. Other fields, which clients copy from earlier answers, are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class TextContent(_Item):
    """Text of a message or of a function's output."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class MessageItem(_Item):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextContent]


class FunctionCallItem(_Item):
    """An earlier call of the assistant."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=256)
    name: str = Field(min_length=1, max_length=256)
    arguments: CallArgumentsText


class FunctionOutputItem(_Item):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=256)
    output: str | list[TextContent]


class ReasoningText(_Item):
    """Part of the reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(_Item):
    """Earlier reasoning; the summary is for people and ignored."""

    type: Literal["reasoning"]
    content: list[ReasoningText] | None = None


def _type_of(item: Any) -> Any:
    """Return the type of an item; messages may leave it out."""
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(
        _type_of,
        custom_error_type="item_type",
        custom_error_message="the type of an item must be message, function_call, function_call_output or reasoning",
    ),
]


def chat_messages(items: Iterable[MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem]) -> list[Any]:
    """Return the messages of a chat: reasoning, text and calls that follow each other are one message."""
    messages: list[dict[str, Any]] = []
    for item in items:
        last = messages[-1] if messages and messages[-1]["role"] == "assistant" else {}
        match item:
            case ReasoningItem():
                text = "".join(part.text for part in item.content or ())
                if text:
                    messages.append({"role": "assistant", "content": None, "reasoning": text})
            case FunctionCallItem():
                if not last:
                    last = {"role": "assistant", "content": None}
                    messages.append(last)
                function = {"name": item.name, "arguments": item.arguments}
                last.setdefault("tool_calls", []).append({"id": item.call_id, "function": function})
            case FunctionOutputItem():
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
            case MessageItem(role="assistant") if last and last["content"] is None and "tool_calls" not in last:
                last["content"] = _text(item.content)
            case MessageItem():
                messages.append({"role": item.role, "content": _text(item.content)})
    return messages


def _text(content: str | list[TextContent]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
