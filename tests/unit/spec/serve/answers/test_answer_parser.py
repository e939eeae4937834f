"""Markers that are special tokens, which have no text of their own."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from edgeai.spec.serve.answers.answer_parser import AnswerParser
from edgeai.spec.serve.answers.calls import CallParser
from edgeai.spec.serve.answers.reasoning import ReasoningSplitter
from edgeai.spec.serve.answers.tool_formats import MISTRAL
from edgeai.spec.serve.engine.text_stream import TextStream
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.target.saved_tokenizer import SavedTokenizer


@pytest.fixture
def served():
    """A byte tokenizer in which [TOOL_CALLS] is special and <think> is an ordinary added token."""
    vocab = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["[TOOL_CALLS]", "</s>"])
    backend.add_tokens(["<think>", "</think>"])
    tokenizer = SavedTokenizer(backend, "{{ tools }}[TOOL_CALLS]", {}, frozenset({257}))
    return ServedModel("tiny", "", tokenizer, 260, 100, tool_format=MISTRAL, splits_reasoning=True)


def test_special_tokens_mark_calls(served):
    assert served.marker_names == {256: "[TOOL_CALLS]"}
    text = '<think>Why [?</think>[TOOL_CALLS] [{"name": "f", "arguments": {}}]</s>'
    calls = CallParser(MISTRAL, {"f"}, streams=True, is_parallel=True)
    parser = AnswerParser(calls, ReasoningSplitter(is_open=False), served.marker_names)
    stream = TextStream(served.tokenizer, ())
    ids = served.tokenizer.encode(text)
    assert served.tokenizer.decode(ids) != text
    for token in ids:
        parser.feed(stream.feed(token, is_draft=False, logprobs=None))
    parser.feed(stream.finish())
    parser.finish()
    answer = parser.answer
    assert (answer.reasoning, answer.content) == ("Why [?", "")
    assert [(call.name, call.arguments) for call in answer.calls] == [("f", "{}")]
    assert answer.has_calls
    assert parser.num_reasoning_tokens == len("<think>Why [?") - len("<think>") + 1
