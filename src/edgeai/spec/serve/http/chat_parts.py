"""Parsed answers as messages and deltas of chat completions.

Source: OpenAI API reference, chat completions; vLLM documentation, "Reasoning Outputs".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeai.spec.serve.answers.answer_parser import ParsedAnswer
from edgeai.spec.serve.answers.deltas import CallArguments, CallBegin, Content, Delta, Reasoning


def message_of(answer: ParsedAnswer) -> dict[str, Any]:
    """Return a complete answer as the message of a choice."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.reasoning:
        message |= _reasoning_fields(answer.reasoning)
    if answer.calls:
        message["content"] = answer.content or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    return message


def delta_of(deltas: Iterable[Delta]) -> dict[str, Any]:
    """Return the parts of an answer as one delta of a chunk; empty without parts."""
    content = reasoning = ""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        match delta:
            case Content(text):
                content += text
            case Reasoning(text):
                reasoning += text
            case CallBegin(index, call_id, name):
                calls[index] = {
                    "index": index,
                    "id": call_id,
                    "type": "function",
                    "function": {"name": name, "arguments": ""},
                }
            case CallArguments(index, text):
                call = calls.setdefault(index, {"index": index, "function": {"arguments": ""}})
                call["function"]["arguments"] += text
    return {
        **({"content": content} if content else {}),
        **(_reasoning_fields(reasoning) if reasoning else {}),
        **({"tool_calls": list(calls.values())} if calls else {}),
    }


def _reasoning_fields(text: str) -> dict[str, str]:
    """Return the reasoning under vLLM's present name and under its former one, which many clients still read."""
    return {"reasoning": text, "reasoning_content": text}
