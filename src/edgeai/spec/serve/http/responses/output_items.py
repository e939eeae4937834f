"""Output items of a response and the events by which they are streamed.

Source: OpenAI API reference, responses, streaming events.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeai.spec.serve.answers.deltas import CallArguments, CallBegin, CallEnd, Content, Delta, Reasoning

Event = dict[str, Any]
_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc"}
_PART_TYPE = {"message": "output_text", "reasoning": "reasoning_text"}


@dataclass
class OutputItem:
    """A message, a part of reasoning or a call."""

    kind: Literal["message", "reasoning", "function_call"]
    call_id: str = ""
    name: str = ""
    text: str = ""
    """Text, or the arguments of a call."""
    status: Literal["in_progress", "completed", "incomplete"] = "in_progress"
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = f"{_PREFIX[self.kind]}_{secrets.token_hex(16)}"

    def part(self) -> dict[str, Any]:
        """Return the text as the content of the item."""
        extra: dict[str, Any] = {"annotations": [], "logprobs": []} if self.kind == "message" else {}
        return {"type": _PART_TYPE[self.kind], "text": self.text, **extra}

    def to_json(self) -> dict[str, Any]:
        """Return the item in OpenAI's format."""
        head = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind == "function_call":
            return {**head, "call_id": self.call_id, "name": self.name, "arguments": self.text}
        content = [] if self.status == "in_progress" and not self.text else [self.part()]
        if self.kind == "reasoning":
            return {**head, "summary": [], "content": content}
        return {**head, "role": "assistant", "content": content}


class OutputItems:
    """The items of one response, in order; only the last one may be incomplete."""

    def __init__(self) -> None:
        self.items: list[OutputItem] = []

    def add(self, deltas: Iterable[Delta]) -> list[Event]:
        """Append parts of the answer; return the events of a stream."""
        events: list[Event] = []
        for delta in deltas:
            match delta:
                case Content(text):
                    events += self._append("message", text)
                case Reasoning(text):
                    events += self._append("reasoning", text)
                case CallBegin(_, call_id, name):
                    events += self.close() + self._open(OutputItem("function_call", call_id, name))
                case CallArguments(_, text):
                    events += self._extend(text)
                case CallEnd():
                    events += self.close()
        return events

    def close(self, *, is_complete: bool = True) -> list[Event]:
        """End the last item.

        Args:
            is_complete: False if the answer was cut off.
        """
        if not self.items or self.items[-1].status != "in_progress":
            return []
        item = self.items[-1]
        item.status = "completed" if is_complete else "incomplete"
        events: list[Event] = []
        if item.kind == "function_call":
            events.append(self._part_event("function_call_arguments.done", name=item.name, arguments=item.text))
        else:
            events.append(self._text_event("done", text=item.text))
            events.append(self._part_event("content_part.done", content_index=0, part=item.part()))
        return [*events, self._item_event("done")]

    def _append(self, kind: Literal["message", "reasoning"], text: str) -> list[Event]:
        last = self.items[-1] if self.items else None
        if last and last.kind == kind and last.status == "in_progress":
            return self._extend(text)
        return self.close() + self._open(OutputItem(kind)) + self._extend(text)

    def open_message(self) -> list[Event]:
        """Begin an empty message, for answers without any text."""
        return self._open(OutputItem("message"))

    def _open(self, item: OutputItem) -> list[Event]:
        self.items.append(item)
        events = [self._item_event("added")]
        if item.kind != "function_call":
            events.append(self._part_event("content_part.added", content_index=0, part=item.part()))
        return events

    def _extend(self, text: str) -> list[Event]:
        item = self.items[-1]
        item.text += text
        if item.kind == "function_call":
            return [self._part_event("function_call_arguments.delta", delta=text)]
        return [self._text_event("delta", delta=text)]

    def _item_event(self, name: str) -> Event:
        index = len(self.items) - 1
        return {"type": f"response.output_item.{name}", "output_index": index, "item": self.items[-1].to_json()}

    def _text_event(self, name: str, **values: Any) -> Event:
        kind = self.items[-1].kind
        if kind == "message":
            values["logprobs"] = []
        return self._part_event(f"{_PART_TYPE[kind]}.{name}", content_index=0, **values)

    def _part_event(self, name: str, /, **values: Any) -> Event:
        item_id = self.items[-1].id
        return {"type": f"response.{name}", "item_id": item_id, "output_index": len(self.items) - 1, **values}
