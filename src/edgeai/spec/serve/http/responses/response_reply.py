"""The response object of /v1/responses, whole or as events."""

from __future__ import annotations

import secrets
import time
from typing import Any

from edgeai.spec.serve.answers.answer_parser import AnswerParser
from edgeai.spec.serve.engine.events import Done, Text
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.responses.output_items import Event, OutputItems
from edgeai.spec.serve.http.responses.response_schema import ResponsesRequest


class ResponsesReply:
    """Builds the response to one request; implements `StreamedReply`.

    Args:
        body: The request, whose options the response repeats.
        parser: Parser of the answer.
    """

    end_mark = b""

    def __init__(self, body: ResponsesRequest, parser: AnswerParser) -> None:
        self._body, self._parser, self._items = body, parser, OutputItems()
        self._head = {"id": f"resp_{secrets.token_hex(16)}", "object": "response", "created_at": int(time.time())}
        self._done: Done | None = None
        self._error: dict[str, Any] | None = None
        self._num_events = 0

    def begin(self) -> list[Event]:
        """See `StreamedReply`."""
        names = ("response.created", "response.in_progress")
        return self._numbered([{"type": name, "response": self.whole()} for name in names])

    def on_text(self, index: int, text: Text) -> list[Event]:
        """See `StreamedReply`."""
        return self._numbered(self._items.add(self._parser.feed(text.pieces)))

    def on_done(self, index: int, done: Done) -> list[Event]:
        """See `StreamedReply`."""
        self._done = done
        events = self._items.add(self._parser.finish())
        if not self._items.items:
            events += self._items.open_message()
        is_call = self._items.items[-1].kind == "function_call"  # those that are complete have been closed
        return self._numbered(events + self._items.close(is_complete=done.reason == "stop" and not is_call))

    def end(self) -> list[Event]:
        """See `StreamedReply`."""
        return self._numbered([{"type": f"response.{self._status}", "response": self.whole()}])

    def on_error(self, error: ApiError) -> list[Event]:
        """See `StreamedReply`."""
        self._error = {"code": "server_error", "message": error.message}
        self._items.close(is_complete=False)
        return self._numbered([{"type": "response.failed", "response": self.whole()}])

    def add(self, index: int, event: Text | Done) -> None:
        """See `StreamedReply`."""
        if isinstance(event, Text):
            self.on_text(index, event)
        else:
            self.on_done(index, event)

    def whole(self) -> dict[str, Any]:
        """Return the response as far as it is known."""
        body = self._body
        is_cut = self._status == "incomplete"
        return {
            **self._head,
            "status": self._status,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "model": body.model,
            "output": [item.to_json() for item in self._items.items],
            "usage": self._usage(self._done) if self._done else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "tool_choice": body.model_dump()["tool_choice"] or "auto",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "metadata": body.metadata or {},
            "text": {"format": body.format},
            "truncation": "disabled",
            "previous_response_id": None,
            "store": False,
        }

    @property
    def _status(self) -> str:
        if self._error:
            return "failed"
        if self._done is None:
            return "in_progress"
        return "completed" if self._done.reason == "stop" else "incomplete"

    def _usage(self, done: Done) -> dict[str, Any]:
        return {
            "input_tokens": done.num_prompt_tokens,
            "input_tokens_details": {"cached_tokens": done.num_reused, "cache_write_tokens": 0},
            "output_tokens": done.num_tokens,
            "output_tokens_details": {"reasoning_tokens": self._parser.num_reasoning_tokens},
            "total_tokens": done.num_prompt_tokens + done.num_tokens,
        }

    def _numbered(self, events: list[Event]) -> list[Event]:
        numbered = [{**event, "sequence_number": self._num_events + n} for n, event in enumerate(events)]
        self._num_events += len(events)
        return numbered
