"""Protocol of a chat backend, and what it yields. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeai.spec.serve.client import Message
from edgeai.spec.serve.engine.events import Text


@dataclass(frozen=True)
class AnswerEnd:
    """Statistics of a complete answer."""

    num_tokens: int
    accept_len: float
    tokens_per_s: float
    """Decoding speed between the first and the last text."""


class ChatBackend(Protocol):
    """Model that answers a conversation."""

    name: str
    """Name of the model."""

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Text | AnswerEnd]:
        """Stream the next turn; closing the generator cancels it.

        Args:
            messages: The conversation, ending with the user's message.
            speculates: False decodes plainly.
        """

    def close(self) -> None:
        """Release the connection or the engine."""


class SpeedMeter:
    """Tokens per second between the first and the last text of an answer."""

    def __init__(self) -> None:
        self._first_s = self._last_s = 0.0
        self._num_later = 0
        self.num_tokens = 0

    def add(self, text: Text) -> None:
        """Record the arrival of new text."""
        self._last_s = time.perf_counter()
        if self._first_s:
            self._num_later += len(text.pieces)
        else:
            self._first_s = self._last_s
        self.num_tokens += len(text.pieces)

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first text per second; 0 if there were none."""
        seconds = self._last_s - self._first_s
        return self._num_later / seconds if seconds else 0.0
