"""Names and bytes of single tokens, as log probabilities report them.

A token may hold a part of a character only. Its text is then the replacement character, which says nothing, so the
vocabulary is asked for its bytes.

Source: OpenAI API reference, `logprobs`; GPT-2's `bytes_to_unicode` for byte-level vocabularies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeai.spec.target.protocol import Tokenizer

_BROKEN = "\ufffd"
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # SentencePiece's mark of a space


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """Return the bytes that a token stands for inside a text; special tokens stand for their names."""
    text = tokenizer.decode([token], keep_special=True)
    entry = tokenizer.entry(token) or ""
    if _BROKEN in text:
        for raw in (_fallback_byte(entry), _byte_level(entry)):
            if raw is not None and raw.decode(errors="replace") == text:
                return raw
    if entry.startswith(_SPACE) and not text.startswith((" ", _SPACE)):
        text = " " + text  # decoders drop the space at the beginning of a text
    return text.encode()


def token_text(raw: bytes) -> str:
    """Return the name of a token: its text, with an escape for each byte of a partial character."""
    return raw.decode(errors="backslashreplace")


def unique_names(raws: Sequence[tuple[int, bytes]]) -> list[str]:
    """Return names for the keys of one dictionary, in the format of text completions.

    Partial characters are written as "bytes:" and escapes. Of several tokens with the same text the first one keeps
    it; the others are named token_id:NUMBER.

    Args:
        raws: Pairs of a token and its bytes.
    """
    names: dict[str, None] = {}
    for token, raw in raws:
        name = completion_name(raw)
        names[f"token_id:{token}" if name in names else name] = None
    return list(names)


def completion_name(raw: bytes) -> str:
    """Return the name of a token in the format of text completions."""
    name = token_text(raw)
    return name if name.encode() == raw else f"bytes:{name}"


def _fallback_byte(entry: str) -> bytes | None:
    """Return the byte of an entry such as <0xF0>, by which SentencePiece spells unknown characters."""
    found = _FALLBACK.fullmatch(entry)
    return bytes([int(found[1], 16)]) if found else None


def _byte_level(entry: str) -> bytes | None:
    """Return the bytes of an entry of a byte-level vocabulary; None if it is not one."""
    try:
        return bytes(_BYTE_OF[char] for char in entry)
    except KeyError:
        return None


def _byte_characters() -> dict[str, int]:
    """Return the byte of each character of byte-level vocabularies: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + n): byte for n, byte in enumerate(others)}}


_BYTE_OF = _byte_characters()
