"""Tool calls in the text of an answer. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Collection

from edgeai.spec.serve.answers.deltas import CallArguments, CallBegin, CallEnd, Content, Delta, open_length
from edgeai.spec.serve.answers.json_object import ObjectScanner, parse_object
from edgeai.spec.serve.answers.tool_formats import ToolFormat


class CallParser:
    """Separates content and calls; text that is not a call of a known function stays content.

    White space next to calls is dropped. The states are the methods named `_in_*`; each takes what it can from the
    buffer and returns False if it needs more text.

    Args:
        style: Format of the calls.
        names: Names of the functions that may be called.
        streams: True emits the arguments while they are generated. They cannot be taken back then: if they turn out
            not to be JSON, the call has no `CallEnd`. False emits complete calls only.
        is_parallel: False ignores everything after the first call.
    """

    def __init__(self, style: ToolFormat, names: Collection[str], *, streams: bool, is_parallel: bool) -> None:
        self._style, self._names, self._streams, self._is_parallel = style, names, streams, is_parallel
        self._header = style.header
        self._buffer = ""
        self._space = ""  # white space that is content unless a call follows
        self._opened = ""  # text of the opening, which is content if no call follows
        self._num_calls = 0
        self._object = ObjectScanner()
        self._num_scanned = 0
        self._arguments = ""
        self._state = self._in_content if style.opening else self._in_opening

    def feed(self, text: str) -> list[Delta]:
        """Add text; return the parts that are certain."""
        self._buffer += text
        out: list[Delta] = []
        while self._buffer and self._state(out):
            pass
        return out

    def finish(self) -> list[Delta]:
        """Return what was held back; call once at the end of the answer."""
        out: list[Delta] = []
        if self._state in (self._in_content, self._in_opening, self._in_call):
            self._add_content(self._opened + self._buffer, out)
        if self._space and not self._num_calls:
            out.append(Content(self._space))
        return out

    def _in_content(self, out: list[Delta]) -> bool:
        opening = self._style.opening
        place = self._buffer.find(opening) if opening else -1
        if place < 0:
            end = len(self._buffer) - open_length(self._buffer, opening)
            self._add_content(self._buffer[:end], out)
            self._buffer = self._buffer[end:]
            return False
        self._add_content(self._buffer[:place], out)
        self._open(self._buffer[place : place + len(opening)], self._buffer[place + len(opening) :])
        return True

    def _open(self, opening: str, rest: str) -> None:
        self._opened, self._buffer = opening, rest
        self._state = self._in_opening

    def _in_opening(self, out: list[Delta]) -> bool:
        """Expect the first call after the opening."""
        text, lead = self._buffer.lstrip(), self._style.lead
        if lead.startswith(text) and text != lead:  # also if there is only white space so far
            return False
        if text.startswith(lead):
            begin = len(self._buffer) - len(text) + len(lead)
            self._opened += self._buffer[:begin]
            self._buffer = self._buffer[begin:]
        elif not self._style.is_lead_optional:
            return self._give_up(out)
        self._begin_call()
        return True

    def _begin_call(self) -> None:
        self._object, self._num_scanned = ObjectScanner(), 0
        self._state = self._in_call

    def _in_call(self, out: list[Delta]) -> bool:
        """Expect a call: stream its arguments once its header is complete, or wait for its end."""
        text = self._buffer.lstrip()
        self._opened += self._buffer[: len(self._buffer) - len(text)]
        self._buffer = text
        if not text:
            return False
        if not text.startswith("{"):
            return self._give_up(out)
        header = self._header.match(text) if self._streams else None
        if header:
            name = _name_of(header[1])
            if name is None or name not in self._names:
                return self._give_up(out)
            self._begin(name, out)
            self._buffer, self._arguments = text[header.end() :], ""
            self._object = ObjectScanner()
            self._state = self._in_arguments
            return True
        end = self._object.end(text[self._num_scanned :])
        if end is None:
            self._num_scanned = len(text)
            return False
        end += self._num_scanned
        if not self._add_whole(text[:end], out):
            return self._give_up(out)
        self._buffer = text[end:]
        self._state = self._after_call
        return True

    def _in_arguments(self, out: list[Delta]) -> bool:
        end = self._object.end(self._buffer)
        part = self._buffer if end is None else self._buffer[:end]
        self._buffer = self._buffer[len(part) :]
        self._arguments += part
        out.append(CallArguments(self._num_calls - 1, part))
        if end is None:
            return False
        if parse_object(self._arguments) is None:
            self._opened, self._state = "", self._in_rest
            return True
        out.append(CallEnd(self._num_calls - 1))
        self._object = ObjectScanner()
        self._object.end("{")  # the arguments were inside the object of the call
        self._state = self._in_tail
        return True

    def _in_tail(self, out: list[Delta]) -> bool:
        """Skip the end of the object around the arguments."""
        end = self._object.end(self._buffer)
        self._buffer = "" if end is None else self._buffer[end:]
        if end is not None:
            self._state = self._after_call
        return end is not None

    def _after_call(self, out: list[Delta]) -> bool:
        if not self._is_parallel:
            self._buffer = ""
            return False
        text, style = self._buffer.lstrip(), self._style
        if not text or (style.closing.startswith(text) and text != style.closing):
            return False
        if style.separator and text.startswith(style.separator):
            self._opened, self._buffer = style.separator, text[len(style.separator) :]
            self._begin_call()
            return True
        if style.closing and text.startswith(style.closing):
            self._buffer = text[len(style.closing) :]
        self._opened, self._state = "", self._in_content if style.opening else self._in_rest
        return True

    def _in_rest(self, out: list[Delta]) -> bool:
        """Take everything as content."""
        self._add_content(self._buffer, out)
        self._buffer = ""
        return False

    def _give_up(self, out: list[Delta]) -> bool:
        """Take the opening as content, and look for another one after it."""
        self._add_content(self._opened, out)
        self._opened = ""
        self._state = self._in_content if self._style.opening else self._in_rest
        return True

    def _add_content(self, text: str, out: list[Delta]) -> None:
        """Emit content up to its last character that is not white space."""
        text = self._space + text
        end = len(text.rstrip())
        self._space = text[end:]
        if end:
            out.append(Content(text[:end]))

    def _begin(self, name: str, out: list[Delta]) -> None:
        self._space = ""
        out.append(CallBegin(self._num_calls, self._style.new_id(), name))
        self._num_calls += 1

    def _add_whole(self, text: str, out: list[Delta]) -> bool:
        """Emit a complete call; return False if it is none."""
        call = parse_object(text)
        if call is None:
            return False
        name, arguments = call.get("name"), call.get(self._style.arguments_key)
        if not (isinstance(name, str) and name in self._names and isinstance(arguments, dict)):
            return False
        self._begin(name, out)
        index = self._num_calls - 1
        header = self._header.match(text)
        as_written = json.dumps(arguments, ensure_ascii=False)
        if header:  # as in a stream: the model's own text
            begin = header.end()
            as_written = text[begin : begin + (ObjectScanner().end(text[begin:]) or 0)]
        out += [CallArguments(index, as_written), CallEnd(index)]
        return True


def _name_of(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted))
    except ValueError:
        return None
