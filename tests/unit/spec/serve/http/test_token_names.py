"""The bytes of single tokens join to the bytes of the text, also where a token is a part of a character."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers

from edgeai.spec.serve.http.token_names import completion_name, token_bytes, token_text, unique_names
from edgeai.spec.target.saved_tokenizer import SavedTokenizer, read_saved
from edgeai.spec.tiny import write_tiny_model

TEXTS = [
    "Hello, world!",
    "Grüße, 你好 🙂👩\u200d👧",
    " two  spaces\n\ttab",
    "\ufffd is a character too",
    "<|im_end|>ÿ\x00",
]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """A byte-level vocabulary of single bytes: every other character is split."""
    from transformers import AutoTokenizer

    from edgeai.spec.target.loading import ChatTokenizer
    from edgeai.spec.target.saved_tokenizer import save

    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    chat = ChatTokenizer(theirs, frozenset({theirs.eos_token_id}))
    save(folder, chat, theirs)
    return {"transformers": chat, "saved": read_saved(folder)}


@pytest.fixture(scope="module")
def sentencepiece():
    """A vocabulary like Llama 2's: spaces are marks, unknown characters are spelled in bytes."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdehlortuw,!Grß你\ufffd", "he", "▁he"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=[("h", "e"), ("▁", "he")], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["</s>"])
    return SavedTokenizer(backend, None, {}, frozenset({1}))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["transformers", "saved"])
def test_byte_level_vocabulary(byte_level, kind, text):
    tokenizer = byte_level[kind]
    raws = [token_bytes(tokenizer, token) for token in tokenizer.encode(text)]
    assert b"".join(raws) == text.encode()
    assert len(raws) == len(text.replace("<|im_end|>", "x").encode())  # one byte a token


@pytest.mark.parametrize("text", ["hello, world! Grüße 你 🙂 好", "\ufffd he he"])
def test_sentencepiece_vocabulary(sentencepiece, text):
    ids = sentencepiece.encode(text)
    assert b"".join(token_bytes(sentencepiece, token) for token in ids) == b" " + text.encode()
    assert sentencepiece.decode(ids) == text
    assert token_bytes(sentencepiece, 1) == b"</s>"


def test_token_beyond_the_vocabulary_has_no_bytes(byte_level):
    assert token_bytes(byte_level["saved"], 5000) == b""


def test_names_escape_partial_characters():
    emoji = "🙂".encode()
    assert token_text(b" " + emoji[:3]) == " \\xf0\\x9f\\x99"
    assert completion_name(emoji[3:]) == "bytes:\\x82"
    assert token_text(emoji) == completion_name(emoji) == "🙂"


def test_names_of_one_dictionary_are_different():
    found = unique_names([(7, b"\xf0"), (8, b"\x9f"), (9, b"a"), (3, b"a"), (300, b""), (301, b"")])
    assert found == ["bytes:\\xf0", "bytes:\\x9f", "a", "token_id:3", "", "token_id:301"]
