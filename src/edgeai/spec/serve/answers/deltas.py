"""Parts of an answer in the order of generation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Content:
    """New text of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """New text of the reasoning before the answer."""

    text: str


@dataclass(frozen=True)
class CallBegin:
    """A tool call whose arguments follow."""

    index: int
    """Number of the call in the answer, from 0."""
    id: str
    name: str
    """Name of one of the request's functions."""


@dataclass(frozen=True)
class CallArguments:
    """New text of a call's arguments, which together are a JSON object."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnd:
    """The arguments of a call are complete and a JSON object."""

    index: int


Delta = Content | Reasoning | CallBegin | CallArguments | CallEnd


def open_length(text: str, mark: str) -> int:
    """Return the length of the longest suffix of a text that is an incomplete beginning of a mark."""
    lengths = range(min(len(mark) - 1, len(text)), 0, -1)
    return next((length for length in lengths if mark.startswith(text[-length:])), 0)
