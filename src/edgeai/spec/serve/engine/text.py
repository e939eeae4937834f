"""From tokens to text as they come: whole characters only, and nothing of a stop text.

A token's text depends on its neighbours (half characters, spaces that some tokenizers drop at the beginning), so each
new token is decoded together with a few before it, and what those alone would give is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.spec.serve.engine.jobs import Pick, Piece
from edgeai.spec.target.target import Tokenizer

_BROKEN = "\ufffd"


class TextStream:
    """Text of one answer.

    Args:
        tokenizer: The target's.
        stop: The answer ends before the first of these.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._begin = 0  # tokens decoded together with new ones start here
        self._read = 0  # tokens whose text is out already end here
        self._held: list[Piece] = []
        self.num_tokens = 0
        self.is_stopped = False
        """A stop text has come."""

    def feed(self, token: int, *, is_draft: bool, pick: Pick | None) -> list[Piece]:
        """Add a token; returns what can be shown now."""
        self.num_tokens += 1
        self._ids.append(token)
        self._held.append(Piece(token, self._new_text(), is_draft, pick))
        text = "".join(piece.text for piece in self._held)
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if ends:
            self.is_stopped = True
            return self._release(min(ends), cuts=True)
        return self._release(len(text) - self._unsafe(text), cuts=False)

    def finish(self) -> list[Piece]:
        """The answer is over: what was held back, half a character included."""
        rest = self._decode(self._begin, len(self._ids))[len(self._decode(self._begin, self._read)) :]
        if rest and self._held:
            last = self._held[-1]
            self._held[-1] = Piece(last.token, last.text + rest, last.is_draft, last.pick)
        elif rest:
            self._held.append(Piece(self._ids[-1], rest, False, None))
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
        """Length of the longest end of the text that a stop text begins with."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0

    def _release(self, length: int, *, cuts: bool) -> list[Piece]:
        """Pieces that end within this much of the held text; the rest is held back, or cut off."""
        out: list[Piece] = []
        while self._held and len(self._held[0].text) <= length:
            length -= len(self._held[0].text)
            out.append(self._held.pop(0))
        if cuts and self._held:
            if length:
                cut = self._held[0]
                out.append(Piece(cut.token, cut.text[:length], cut.is_draft, cut.pick))
            self._held = []
        return out
