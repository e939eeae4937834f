"""Parser of one answer: reasoning first, then content and tool calls. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgeai.spec.serve.answers.calls import CallParser
from edgeai.spec.serve.answers.deltas import CallArguments, CallBegin, CallEnd, Content, Delta, Reasoning
from edgeai.spec.serve.answers.reasoning import ReasoningSplitter
from edgeai.spec.serve.engine.events import Piece


@dataclass
class Call:
    """A tool call."""

    id: str
    name: str
    arguments: str = ""
    """JSON object, or its beginning."""
    is_complete: bool = False


@dataclass
class ParsedAnswer:
    """Everything that was parsed so far."""

    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)

    @property
    def has_calls(self) -> bool:
        """True if the answer is made of complete calls."""
        return bool(self.calls) and all(call.is_complete for call in self.calls)

    def add(self, deltas: Iterable[Delta]) -> None:
        """Append parts."""
        for delta in deltas:
            match delta:
                case Content(text):
                    self.content += text
                case Reasoning(text):
                    self.reasoning += text
                case CallBegin(_, call_id, name):
                    self.calls.append(Call(call_id, name))
                case CallArguments(index, text):
                    self.calls[index].arguments += text
                case CallEnd(index):
                    self.calls[index].is_complete = True


class AnswerParser:
    """Parses the pieces of one answer.

    Args:
        calls: Parser of tool calls; None leaves them in the content.
        reasoning: Splitter of the reasoning; None leaves it in the content.
        marker_names: Texts of the special tokens that mark calls and reasoning and have no text of their own.
    """

    def __init__(
        self,
        calls: CallParser | None = None,
        reasoning: ReasoningSplitter | None = None,
        marker_names: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self._calls, self._reasoning, self._marker_names = calls, reasoning, marker_names
        self.answer = ParsedAnswer()
        self.num_reasoning_tokens = 0

    def feed(self, pieces: Iterable[Piece]) -> list[Delta]:
        """Add new pieces; return the parts that are certain."""
        out: list[Delta] = []
        for piece in pieces:
            out += self._split(piece.text or self._marker_names.get(piece.token, ""))
            self.num_reasoning_tokens += bool(self._reasoning and self._reasoning.is_reasoning)
        self.answer.add(out)
        return out

    def finish(self) -> list[Delta]:
        """Return what was held back; call once at the end of the answer."""
        out: list[Delta] = []
        for part in self._reasoning.finish() if self._reasoning else ():
            out += self._calls_in(part)
        if self._calls:
            out += self._calls.finish()
        self.answer.add(out)
        return out

    def _split(self, text: str) -> list[Delta]:
        if not text:
            return []
        out: list[Delta] = []
        for part in self._reasoning.feed(text) if self._reasoning else (Content(text),):
            out += self._calls_in(part)
        return out

    def _calls_in(self, part: Content | Reasoning) -> list[Delta]:
        if self._calls and isinstance(part, Content):
            return self._calls.feed(part.text)
        return [part]
