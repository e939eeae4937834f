"""Checks of parsed JSON that hold for every value of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

_MAX_DEPTH = 64
"""Deepest nesting of a request; a message with parts has 5 levels."""


def check_values(data: Any) -> None:
    """Check the nesting, and that no string contains a lone surrogate, which JSON escapes can express.

    Raises:
        PydanticCustomError: A value cannot be used.
    """
    level = [data]
    for _ in range(_MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise PydanticCustomError("invalid_text", "a string contains a lone surrogate")
            if isinstance(value, Mapping):
                deeper += [*value, *value.values()]
            elif isinstance(value, list):
                deeper += value
        level = deeper
    if level:
        raise PydanticCustomError("too_deep", "the request is nested too deeply")
