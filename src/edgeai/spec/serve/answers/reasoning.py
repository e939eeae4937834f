"""Reasoning at the beginning of an answer, between <think> and </think>. Imports no torch."""

from __future__ import annotations

from edgeai.spec.serve.answers.deltas import Content, Reasoning, open_length

BEGIN, END = "<think>", "</think>"
REASONING_MARKS = (BEGIN, END)


def opens_reasoning(prompt: str) -> bool:
    """Return True if the answer to a rendered chat begins inside the reasoning."""
    return prompt.rstrip().endswith(BEGIN)


class ReasoningSplitter:
    """Separates the reasoning from the rest of the answer; white space around the two is dropped.

    Args:
        is_open: True if the prompt ends with the opening tag; otherwise the answer has to begin with it.
    """

    def __init__(self, *, is_open: bool) -> None:
        self._buffer = ""
        self._state = "reasoning" if is_open else "begin"
        self._has_text = False

    @property
    def is_reasoning(self) -> bool:
        """True while the reasoning continues."""
        return self._state == "reasoning"

    def feed(self, text: str) -> list[Content | Reasoning]:
        """Add text; return the parts that are certain."""
        self._buffer += text
        out: list[Content | Reasoning] = []
        if self._state == "begin":
            self._find_begin()
        if self._state == "reasoning":
            self._take_reasoning(out)
        if self._state == "between" and (rest := self._buffer.lstrip()):
            self._buffer, self._state = rest, "content"
        if self._state == "content" and self._buffer:
            out.append(Content(self._buffer))
            self._buffer = ""
        return out

    def finish(self) -> list[Content | Reasoning]:
        """Return what was held back; call once at the end of the answer."""
        text = self._buffer.rstrip() if self.is_reasoning else self._buffer
        if not text or self._state == "between":
            return []
        return [Reasoning(text) if self.is_reasoning else Content(text)]

    def _find_begin(self) -> None:
        text = self._buffer.lstrip()
        if text.startswith(BEGIN):
            self._buffer, self._state = text[len(BEGIN) :], "reasoning"
        elif not BEGIN.startswith(text):
            self._state = "content"

    def _take_reasoning(self, out: list[Content | Reasoning]) -> None:
        if not self._has_text:
            self._buffer = self._buffer.lstrip()
        place = self._buffer.find(END)
        end = len(self._buffer) - open_length(self._buffer, END) if place < 0 else place
        text = self._buffer[:end].rstrip()
        if text:
            self._has_text = True
            out.append(Reasoning(text))
        if place < 0:
            self._buffer = self._buffer[len(text) :]
        else:
            self._buffer, self._state = self._buffer[place + len(END) :], "between"
