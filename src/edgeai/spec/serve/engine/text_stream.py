"""Incremental detokenization: emits whole characters only, and no part of a stop text.

The text of a token depends on its neighbors (incomplete characters, spaces that some tokenizers drop at the beginning).
Each new token is therefore decoded together with a few tokens before it, and the text of those alone is removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.spec.serve.engine.events import Piece, TokenLogprobs
from edgeai.spec.target.protocol import Tokenizer

_BROKEN = "\ufffd"


class TextStream:
    """Incremental text of one answer.

    Args:
        tokenizer: The target's tokenizer.
        stop: Stop texts: the answer ends before the first of them.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._begin = 0  # first token decoded together with new ones
        self._read = 0  # end of the tokens whose text has been emitted
        self._held: list[Piece] = []
        self.num_tokens = 0
        self.is_stopped = False
        """True once a stop text is complete."""

    def feed(self, token: int, *, is_draft: bool, logprobs: TokenLogprobs | None) -> list[Piece]:
        """Add a token; return the pieces that are safe to emit."""
        self.num_tokens += 1
        self._ids.append(token)
        self._held.append(Piece(token, self._new_text(), is_draft, logprobs))
        text = "".join(piece.text for piece in self._held)
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if ends:
            self.is_stopped = True
            return self._release(min(ends), cuts=True)
        return self._release(len(text) - self._unsafe(text), cuts=False)

    def finish(self) -> list[Piece]:
        """Return the pieces held back, an incomplete character included; call once at the end of the answer."""
        rest = self._decode(self._begin, len(self._ids))[len(self._decode(self._begin, self._read)) :]
        if rest:
            last = self._held[-1]
            self._held[-1] = Piece(last.token, last.text + rest, last.is_draft, last.logprobs)
        pieces, self._held = self._held, []
        return pieces

    def _new_text(self) -> str:
        before = self._decode(self._begin, self._read)
        now = self._decode(self._begin, len(self._ids))
        if now.endswith(_BROKEN) or len(now) <= len(before):
            return ""
        self._begin, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _decode(self, begin: int, end: int) -> str:
        return self._tokenizer.decode(self._ids[begin:end])

    def _unsafe(self, text: str) -> int:
        """Return the length of the longest suffix of the text that is a prefix of a stop text."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0

    def _release(self, length: int, *, cuts: bool) -> list[Piece]:
        """Return the held pieces that end within the first `length` characters.

        Tokens that have no text of their own yet stay: a character that never becomes whole belongs to one of them.

        Args:
            length: Characters that are safe to emit.
            cuts: True drops the remaining text; False keeps holding it back.
        """
        out: list[Piece] = []
        num_open = 0 if cuts else len(self._ids) - self._read
        while len(self._held) > num_open and len(self._held[0].text) <= length:
            length -= len(self._held[0].text)
            out.append(self._held.pop(0))
        if cuts and self._held:
            if length:
                cut = self._held[0]
                out.append(Piece(cut.token, cut.text[:length], cut.is_draft, cut.logprobs))
            self._held = []
        return out
