"""Request bodies and the parser of streamed chunks."""

from __future__ import annotations

import json

import pytest

from edgeai.core.errors import EdgeAIError
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.serve.client import ChatOptions, StreamChunk, read_chunk, streamed
from edgeai.spec.serve.engine.events import Piece, Text
from edgeai.spec.serve.http.request_schema import ChatRequest


def test_the_body_is_a_valid_request_with_the_system_message_first() -> None:
    options = ChatOptions(SamplingConfig(temperature=0.5, top_k=4, seed=7), 12, system="be brief")
    body = streamed(options.body("tiny", [{"role": "user", "content": "hello"}], speculates=False))
    request = ChatRequest.model_validate(body)
    assert [(m.role, m.text) for m in request.messages] == [("system", "be brief"), ("user", "hello")]
    assert (request.temperature, request.top_k, request.seed, request.max_tokens) == (0.5, 4, 7, 12)
    assert (request.speculative, request.stream, request.options.include_speculation) == ("off", True, True)


def test_chunks_with_text_and_with_the_end() -> None:
    pieces = [{"token": 5, "text": "a", "is_draft": True}, {"token": 6, "text": "", "is_draft": False}]
    chunk = {
        "choices": [{"finish_reason": None}],
        "speculation": {"num_drafted": 3, "num_accepted": 1, "pieces": pieces},
    }
    text = Text((Piece(5, "a", True, None), Piece(6, "", False, None)), 1, 3)
    assert read_chunk(f"data: {json.dumps(chunk)}") == StreamChunk(text, is_last=False, accept_len=None)
    end = {
        "choices": [{"finish_reason": "stop"}],
        "metrics": {"speculative_decoding": {"mean_acceptance_length": 2.5}},
    }
    assert read_chunk(f"data: {json.dumps(end)}") == StreamChunk(None, is_last=True, accept_len=2.5)


def test_other_lines_and_errors() -> None:
    assert read_chunk("") is None
    assert read_chunk("data: [DONE]") is None
    with pytest.raises(EdgeAIError, match="the server reports an error: the queue is full"):
        read_chunk('data: {"error": {"message": "the queue is full"}}')
