"""Streamed text against the whole text, decoded at once and truncated at the first stop text."""

from __future__ import annotations

import random

import pytest

from edgeai.spec.serve.engine.text_stream import TextStream


class Utf8Bytes:
    """One token per byte; incomplete characters decode to the replacement character."""

    eos_ids = frozenset({256})

    def decode(self, ids, *, keep_special=False):
        return bytes(i for i in ids if i < 256).decode("utf-8", errors="replace")


def stream(tokenizer, ids, stop):
    """Return the chunks and the number of tokens consumed."""
    text = TextStream(tokenizer, stop)
    chunks = []
    for token in ids:
        chunks.append("".join(p.text for p in text.feed(token, is_draft=False, logprobs=None)))
        if text.is_stopped:
            return chunks, text.num_tokens
    return [*chunks, "".join(p.text for p in text.finish())], text.num_tokens


@pytest.mark.parametrize("seed", range(20))
def test_chunks_add_up_to_the_text_before_the_first_stop(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice(["ab", "b", "é", "日", "🙂", " ", "END", "EN"]) for _ in range(30))
    stop = rng.choice([(), ("END",), ("日b", "END"), ("bab", "b b", "🙂")])
    ids = list(text.encode())
    chunks, taken = stream(Utf8Bytes(), ids, stop)

    places = [text.find(s) for s in stop if s in text]
    expected = text[: min(places)] if places else text
    assert "".join(chunks) == expected
    assert all("\ufffd" not in chunk for chunk in chunks)
    if places:  # consumed up to the byte that completes the first stop text
        done = min(text.find(s) + len(s) for s in stop if s in text)
        assert taken == len(text[:done].encode())


def test_only_a_possible_stop_text_is_held_back():
    chunks, _ = stream(Utf8Bytes(), list(b"aENbEND"), ("END",))
    assert chunks == ["a", "", "", "ENb", "", "", ""]


def test_an_incomplete_character_at_the_end_becomes_the_replacement_character():
    chunks, _ = stream(Utf8Bytes(), [*b"ok", 0xE6, 0x97], ())
    assert "".join(chunks) == "ok\ufffd"


def test_special_tokens_have_no_text_but_count():
    chunks, taken = stream(Utf8Bytes(), [*b"ok", 256], ())
    assert ("".join(chunks), taken) == ("ok", 3)


@pytest.mark.parametrize("seed", range(20))
def test_every_token_has_one_piece(seed):
    """Broken characters in the middle and at the end, too."""
    rng = random.Random(seed)
    ids = [rng.choice([*b"ab ", *"日🙂".encode(), 256]) for _ in range(25)]
    text, pieces = TextStream(Utf8Bytes(), ()), []
    for token in ids:
        pieces += text.feed(token, is_draft=False, logprobs=None)
    pieces += text.finish()
    assert [piece.token for piece in pieces] == ids
    assert "".join(piece.text for piece in pieces) == Utf8Bytes().decode(ids)
