"""JSON objects inside a text that is still being generated. Imports no torch."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


class ObjectScanner:
    """Finds the end of a JSON object; each character is looked at once, however the text is divided.

    Brackets and strings are counted only: `parse_object` says whether the text is valid.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = self._is_escaped = False

    def end(self, text: str) -> int | None:
        """Return the end of the object in the next part of the text; None if the object continues after this part."""
        place = 0
        if self._is_escaped and text:
            place, self._is_escaped = 1, False
        while found := (_IN_STRING if self._is_string else _STRUCTURE).search(text, place):
            place = found.end()
            match found[0]:
                case '"':
                    self._is_string = not self._is_string
                case "\\":
                    self._is_escaped = place == len(text)
                    place += 1
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return place
        return None


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None if it is something else."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
