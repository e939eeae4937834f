"""Faults: every request gets a response or frees its slot, nothing hangs, and other requests continue."""

from __future__ import annotations

import json
import socket
import threading
import time

import httpx
import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.serve.http.limits import Limits

LONG = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 100}
SHORT = {**LONG, "max_tokens": 8}
CHAT = "u:hi\na:"


@pytest.fixture
def endless(small_vocab_target):
    """Model without an end-of-text token."""
    return small_vocab_target


@pytest.fixture
def expected(endless):
    """The answer to SHORT."""
    ids = generate_ids(
        endless,
        None,
        [token % 12 for token in endless.tokenizer.encode(CHAT)],
        tree=TreeConfig(),
        sampling=SamplingConfig(),
        max_tokens=8,
        context=128,
    ).ids
    return endless.tokenizer.decode(ids)


@pytest.fixture(autouse=True)
def twelve_tokens(endless, monkeypatch):
    """Tokenizer for the model with twelve tokens."""
    encode = type(endless.tokenizer).encode
    monkeypatch.setattr(
        endless.tokenizer, "encode", lambda text: [t % 12 for t in encode(endless.tokenizer, text)], raising=False
    )


def post(running, body, path="/v1/chat/completions", **options):
    return httpx.post(running.url + path, json=body, timeout=30, **options)


def test_a_client_that_disconnects_from_a_stream_frees_its_slot(serve, endless, expected):
    running = serve(endless, num_slots=1, slow_s=0.05)
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json={**LONG, "stream": True}) as stream:
        lines = stream.iter_lines()
        while '"content":""' in (line := next(lines)) or not line.startswith("data:"):
            pass
        assert running.engine.num_active == 1
    left_s = time.monotonic()
    assert running.idle()
    assert time.monotonic() - left_s < 3.0  # 98 more cycles would take 5 s
    assert post(running, SHORT).json()["choices"][0]["message"]["content"] == expected


def test_a_client_that_disconnects_while_waiting_frees_its_slot(serve, endless):
    running = serve(endless, num_slots=1, slow_s=0.05)
    body = json.dumps(LONG).encode()
    with socket.create_connection(("127.0.0.1", int(running.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        while not running.engine.num_active:
            time.sleep(0.01)
    left_s = time.monotonic()
    assert running.idle()
    assert time.monotonic() - left_s < 3.0


def test_disconnected_clients_leave_the_queue(serve, endless):
    running = serve(endless, num_slots=1, slow_s=0.05, queue=4)
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json={**LONG, "stream": True}):
        for _ in range(6):  # more than the queue holds, one at a time
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{running.url}/v1/chat/completions", json=SHORT, timeout=0.1)
            while running.engine.num_waiting:
                time.sleep(0.01)
    assert running.idle()


@pytest.mark.parametrize(
    ("content", "status", "code", "message"),
    [
        (b"{", 400, "invalid_json", "the body is not valid JSON"),
        (b"", 400, "invalid_value", "Field required"),
        (b'"hello"', 400, "invalid_value", "Input should be a valid dictionary or object to extract fields from"),
        (b'{"model": "tiny", "messages": "hi"}', 400, "invalid_value", "messages: Input should be a valid list"),
        (
            b'{"model": "tiny", "messages": [{"role": "user"}]}',
            400,
            "invalid_value",
            "messages.0: content is required, except in messages of the assistant with tool calls",
        ),
        (b'{"model": 7, "messages": []}', 400, "invalid_value", "model: Input should be a valid string"),
        (
            b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
            400,
            "invalid_value",
            "a string contains a lone surrogate",
        ),
        (b"\xff\xfe{}", 400, None, None),
    ],
)
def test_invalid_bodies(serve, endless, content, status, code, message):
    running = serve(endless)
    reply = httpx.post(
        f"{running.url}/v1/chat/completions", content=content, headers={"content-type": "application/json"}
    )
    assert reply.status_code == status
    error = reply.json()["error"]
    assert code is None or error["code"] == code
    assert message is None or error["message"] == message
    assert "7" not in error["message"]  # the message does not repeat the input


def test_ten_megabytes_are_not_read(serve, endless, expected):
    running = serve(endless)

    def chunks():
        for _ in range(160):
            yield b"x" * 65536

    declared = httpx.post(f"{running.url}/v1/chat/completions", content=b"x" * 10_000_000)
    assert declared.status_code == 413
    assert declared.json()["error"]["message"] == "the body is larger than 1048576 bytes"
    try:
        streamed = httpx.post(f"{running.url}/v1/chat/completions", content=chunks())
        assert streamed.status_code == 413
    except httpx.WriteError:  # the server closed the connection while the client was sending
        pass
    assert post(running, SHORT).json()["choices"][0]["message"]["content"] == expected


def test_unknown_addresses_and_methods(serve, endless):
    running = serve(endless)
    assert httpx.get(f"{running.url}/v2/nothing").json()["error"]["message"] == "no such endpoint"
    reply = httpx.get(f"{running.url}/v1/chat/completions")
    assert (reply.status_code, reply.json()["error"]["message"]) == (405, "method not allowed at this endpoint")
    assert httpx.get(f"{running.url}/v1/models/other").status_code == 404


def test_a_full_queue_says_when_to_retry(serve, endless):
    running = serve(endless, num_slots=1, queue=1, slow_s=0.05)
    url = f"{running.url}/v1/chat/completions"
    with (
        httpx.stream("POST", url, json={**LONG, "stream": True}) as first,
        httpx.stream("POST", url, json={**LONG, "stream": True}) as second,
    ):
        assert first.status_code == second.status_code == 200
        reply = post(running, SHORT)
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "1"
        assert reply.json()["error"]["code"] == "queue_full"
    assert running.idle()
    assert post(running, SHORT).status_code == 200


def test_an_exception_in_one_request_does_not_affect_the_others(serve, endless, expected, monkeypatch):
    running = serve(endless, num_slots=4, slow_s=0.01)
    monkeypatch.setattr("edgeai.spec.serve.engine.sampler.RequestSampler._changed", lambda self, logits: 1 / 0)
    replies = {}

    def ask(name, body):
        replies[name] = post(running, body)

    bad = {**SHORT, "presence_penalty": 1.0}
    threads = [
        threading.Thread(target=ask, args=(name, body))
        for name, body in {"good": SHORT, "bad": bad, "also good": SHORT}.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for name in ("good", "also good"):
        assert replies[name].json()["choices"][0]["message"]["content"] == expected
    assert replies["bad"].status_code == 500
    assert replies["bad"].json() == {
        "error": {
            "message": "the server failed to answer this request",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }
    }
    stream = post(running, {**bad, "stream": True})
    events = [line for line in stream.text.split("\n\n") if line]
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "internal_error"
    assert events[-1] == "data: [DONE]"
    assert running.idle()


def test_draining_rejects_new_requests_and_finishes_the_others(serve, endless):
    running = serve(endless, slow_s=0.05)
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json={**LONG, "stream": True}) as stream:
        running.engine.drain()
        reply = post(running, SHORT)
        assert (reply.status_code, reply.json()["error"]["message"]) == (503, "the server is shutting down")
        assert httpx.get(f"{running.url}/health").status_code == 503
        text = stream.read().decode()
    assert '"finish_reason":"length"' in text
    assert text.endswith("data: [DONE]\n\n")


def test_prompts_are_logged_only_on_request(serve, endless):
    told = []
    running = serve(endless, on_prompt=told.append)
    post(running, SHORT)
    assert json.loads(told[0]) == SHORT


def test_a_body_that_does_not_arrive_times_out():
    """Calls the middleware directly, without a server."""
    import asyncio

    sent = []

    async def app(scope, receive, send):
        raise AssertionError("must not be reached")

    async def receive():
        await asyncio.sleep(3600)

    async def send(message):
        sent.append(message)

    limits = Limits(app, max_body_bytes=10, api_key="", body_timeout_s=0.05)
    scope = {"type": "http", "path": "/v1/completions", "headers": [(b"content-length", b"5")]}
    asyncio.run(limits(scope, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["message"] == "the body did not arrive in time"


def test_metrics_count_requests_tokens_and_trees(serve, endless):
    running = serve(endless)
    post(running, SHORT)
    post(running, {**SHORT, "model": "other"})
    text = httpx.get(f"{running.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["edgeai_spec_generation_tokens_total"]) == 8
    assert float(values["edgeai_spec_prompt_tokens_total"]) == len(CHAT)
    assert float(values['edgeai_spec_requests_total{outcome="length"}']) == 1
    assert float(values['edgeai_spec_rejected_total{status="404"}']) == 1
    trees = float(values["edgeai_spec_spec_decode_num_drafts_total"])
    accepted = float(values["edgeai_spec_spec_decode_num_accepted_tokens_total"])
    assert 8 - 1 - 1 <= trees + accepted <= 8 - 1  # all but the first, and perhaps the last, come from trees
    assert float(values['edgeai_spec_tree_choices_total{nodes="6",reason="fixed"}']) >= trees
    assert float(values["edgeai_spec_active_requests"]) == 0
