"""Errors that clients parse: OpenAI's type, param and code, and status 400 for all that a request can contain."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import jinja2
import pytest

from edgeai.spec.serve.http.ignored_fields import LABELS, NEUTRAL
from edgeai.spec.serve.http.request_schema import ChatRequest
from edgeai.spec.target.protocol import ChatTemplateError, merged_template_values

HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "tiny", "messages": HELLO, "temperature": 0, "max_tokens": 4}
TEXT = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 4}
IMAGE = {"type": "image_url", "image_url": {"url": "http://x"}}


@pytest.fixture
def post(serve, target):
    running = serve(target)

    def send(body, *, path=None, **options):
        path = path or ("/v1/completions" if "prompt" in body else "/v1/chat/completions")
        return httpx.post(running.url + path, json=body, timeout=30, **options)

    send.running = running
    return send


def error_of(reply, status=400):
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        ({**TEXT, "tools": [{}]}, "tools", "unsupported_parameter", "'tools' is not supported by this server"),
        ({**CHAT, "tools": [{}]}, "tools.0.type", "invalid_value", "tools.0.type: Field required"),
        (
            {**CHAT, "thinking": {"type": "enabled"}},
            "thinking",
            "unsupported_parameter",
            "'thinking' is not supported ",
        ),
        (
            {**CHAT, "repetition_penalty": 1.1},
            "repetition_penalty",
            "unsupported_parameter",
            "'repetition_penalty' is ",
        ),
        ({**CHAT, "echo": 0}, "echo", "unsupported_parameter", "'echo' is not supported by this server"),
        ({**CHAT, "best_of": 2}, "best_of", "unsupported_parameter", "'best_of' is not supported by this server"),
        ({**CHAT, "temprature": 0}, "temprature", "unknown_parameter", "unrecognized request argument: temprature"),
        ({**CHAT, "max_tokens": -2}, "max_tokens", "invalid_value", "max_tokens: Input should be greater than or "),
        ({**CHAT, "stop": [""]}, "stop", "invalid_value", "stop: empty stop text"),
        ({**CHAT, "stop": [1]}, "stop.0", "invalid_value", "stop.0: Input should be a valid string"),
        ({**CHAT, "stop": 1}, "stop", "invalid_value", "stop: Input should be a valid string or a valid list"),
        (
            {**CHAT, "messages": [{"role": "user", "content": 7}]},
            "messages.0.content",
            "invalid_value",
            "messages.0.content: Input should be a valid string or a valid list",
        ),
        (
            {**CHAT, "messages": [*HELLO, {"role": "user", "content": [IMAGE]}]},
            "messages.1.content.0.type",
            "invalid_value",
            "messages.1.content.0.type: Input should be 'text'",
        ),
        (
            {**CHAT, "messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
            "invalid_value",
            "messages.0.content.0.text: Field required",
        ),
        ({**TEXT, "prompt": [1, "a"]}, "prompt.1", "invalid_value", "prompt.1: Input should be a valid integer"),
        ({**TEXT, "prompt": ["a", 1]}, "prompt.1", "invalid_value", "prompt.1: Input should be a valid string"),
        (
            {**TEXT, "prompt": [[1], ["a"]]},
            "prompt.1.0",
            "invalid_value",
            "prompt.1.0: Input should be ",
        ),
        ({**TEXT, "prompt": {}}, "prompt", "invalid_value", "prompt: Input should be a valid string or a valid list"),
        ({**TEXT, "prompt": [128]}, "prompt", "invalid_value", "prompt: token ids must be between 0 and 127"),
        ({**TEXT, "prompt": [-1]}, "prompt", "invalid_value", "prompt: token ids must be between 0 and 127"),
        (
            {**TEXT, "prompt": "x" * 100, "max_tokens": 100},
            "prompt",
            "context_length_exceeded",
            "This model's maximum context length is 128 tokens. However, you requested 200 tokens "
            "(100 in the prompt, 100 in the completion). Please reduce the length of the prompt or completion.",
        ),
    ],
)
def test_param_code_and_message(post, body, param, code, message):
    error = error_of(post(body))
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"].startswith(message)


def test_the_content_type_is_named(post):
    url = post.running.url + "/v1/chat/completions"
    body = json.dumps(CHAT).encode()
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        error = error_of(httpx.post(url, content=body, headers=headers))
        assert error["code"] == "unsupported_content_type"
        assert error["message"].endswith("send the body with the header 'Content-Type: application/json'")
    assert httpx.post(url, content=body, headers={"content-type": "application/json; charset=utf-8"}).is_success


@pytest.mark.parametrize("depth", [70, 500, 900, 100_000])
@pytest.mark.parametrize("name", ["metadata", "messages", "response_format"])
def test_deep_nesting(post, depth, name):
    body = json.dumps(CHAT)[:-1] + f', "{name}": ' + '{"a":' * depth + "1" + "}" * depth + "}"
    reply = httpx.post(
        post.running.url + "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    error_of(reply)


def test_the_sentence_of_a_chat_template(post, target, monkeypatch):
    def render(messages, *, open_answer):
        raise ChatTemplateError(jinja2.TemplateError("Conversation roles must alternate\nuser/assistant"))

    monkeypatch.setattr(target.tokenizer, "render", render, raising=False)
    error = error_of(post(CHAT))
    assert (
        error["message"] == "the chat template refuses the messages: Conversation roles must alternate user/assistant"
    )
    assert (error["param"], error["code"]) == ("messages", "invalid_value")


def test_values_for_the_chat_template(post, target, monkeypatch):
    given = []

    def with_values(values):
        given.append(values)
        merged_template_values({}, values)
        return target.tokenizer

    monkeypatch.setattr(target.tokenizer, "with_template_values", with_values, raising=False)
    assert post({**CHAT, "chat_template_kwargs": {"enable_thinking": False}}).is_success
    assert given == [{"enable_thinking": False}]
    error = error_of(post({**CHAT, "chat_template_kwargs": {"tools": []}}))
    assert error["message"] == "chat_template_kwargs: 'tools' is set by the tokenizer"
    assert error["param"] == "chat_template_kwargs"
    assert error_of(post({**TEXT, "chat_template_kwargs": {}}))["code"] == "unknown_parameter"


@pytest.mark.parametrize("body", [CHAT, TEXT])
def test_a_tokenizer_larger_than_the_embedding(post, target, monkeypatch, body):
    monkeypatch.setattr(target.tokenizer, "encode", lambda text: [5, 128], raising=False)
    assert error_of(post(body))["message"].endswith(": token ids must be between 0 and 127")


@pytest.mark.parametrize(
    "changes", [{"temperature": 1e-320}, {"temperature": 1e-50}, {"temperature": 1, "top_p": 1e-50}]
)
def test_tiny_numbers_are_greedy(post, changes):
    greedy = post(CHAT).json()["choices"][0]["message"]["content"]
    assert post({**CHAT, **changes}).json()["choices"][0]["message"]["content"] == greedy


def test_unknown_addresses_give_the_object_of_openai(post):
    for path in ("/v1/embeddings", "/v1/images/generations", "/v2"):
        error = error_of(post(CHAT, path=path), 404)
        assert error == {
            "message": "no such endpoint", "type": "invalid_request_error", "param": None, "code": "unknown_url"
        }  # fmt: skip


def test_the_connection_is_usable_after_an_unexpected_error(serve, target, monkeypatch, caplog):
    """The same socket serves the next request."""
    running = serve(target)
    chat_jobs = "edgeai.spec.serve.http.api.chat_jobs"
    with httpx.Client(base_url=running.url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(chat_jobs, lambda served, body: 1 / 0)
            reply = client.post("/v1/chat/completions", json=CHAT)
        error = error_of(reply, 500)
        assert (error["type"], error["code"]) == ("server_error", "internal_error")
        assert reply.headers.get("connection") != "close"
        stream = reply.extensions["network_stream"]
        address = stream.get_extra_info("client_addr")
        again = client.post("/v1/chat/completions", json=CHAT)
        assert again.is_success
        assert again.extensions["network_stream"].get_extra_info("client_addr") == address
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_that_fails_ends_with_an_error(serve, target, monkeypatch):
    """The connection stays usable as well."""
    running = serve(target)
    body = {**CHAT, "stream": True}
    with httpx.Client(base_url=running.url) as client:
        with monkeypatch.context() as patch:
            patch.setattr("edgeai.spec.serve.http.reply.Reply._text_chunk", lambda *args, **options: 1 / 0)
            *_, error, end = [
                line for line in client.post("/v1/chat/completions", json=body).text.split("\n\n") if line
            ]
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "internal_error"
        assert end == "data: [DONE]"
        assert client.post("/v1/chat/completions", json=CHAT).is_success
    assert running.idle()


HARMLESS = {
    "cache_control": {"type": "ephemeral"},
    "thinking": {"type": "disabled"},
    "parallel_tool_calls": True,
    "repetition_penalty": 1,
    "max_completion_tokens": -1,
    "stop": "",
    "tools": [],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "best_of": 1,
    "user": "someone",
    "metadata": {"a": "b"},
    "reasoning_effort": None,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_fields_that_change_nothing(post, name):
    expected = post(CHAT).json()["choices"][0]["message"]["content"]
    reply = post({**CHAT, name: HARMLESS[name]})
    assert reply.is_success, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == expected


def test_max_tokens_of_minus_one_is_the_rest_of_the_context(post):
    without = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    expected, found = (post(body).json() for body in (without, {**CHAT, "max_tokens": -1}))
    assert found["choices"][0]["message"] == expected["choices"][0]["message"]
    assert found["usage"]["completion_tokens"] > 4


def test_cache_control_of_a_part(post):
    part = {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
    reply = post({**CHAT, "messages": [{"role": "user", "content": [part]}]})
    assert reply.json()["choices"][0]["message"] == post(CHAT).json()["choices"][0]["message"]


@pytest.mark.parametrize("name", [*LABELS, *NEUTRAL])
def test_every_field_is_accepted_with_its_values_and_documented(post, name):
    values = NEUTRAL.get(name, ("anything",))
    body = TEXT if name in ChatRequest.model_fields else CHAT
    for value in (None, *values):
        assert post({**body, name: value}).is_success, (name, value)
    if name in NEUTRAL:
        assert error_of(post({**body, name: ["unknown"]}))["code"] == "unsupported_parameter"
    text = (Path(__file__).parents[5] / "docs/howto/serve.md").read_text(encoding="utf-8")
    assert re.search(f"`{name}[`:]", text), f"docs/howto/serve.md does not list {name}"


def test_cors_is_off_by_default(post):
    reply = post(CHAT, headers={"origin": "http://localhost:3000"})
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(("origins", "allowed"), [(["http://localhost:3000"], "http://localhost:3000"), (["*"], "*")])
def test_cors(serve, target, origins, allowed):
    running = serve(target, api_key="s3cret", cors_origins=origins)
    url = f"{running.url}/v1/chat/completions"
    asked = {
        "origin": "http://localhost:3000",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = httpx.options(url, headers=asked)  # browsers send no key here
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == allowed
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert "POST" in preflight.headers["access-control-allow-methods"]
    refused = httpx.post(url, json=CHAT, headers={"origin": "http://localhost:3000"})
    assert refused.status_code == 401  # and the page may read why
    assert refused.headers["access-control-allow-origin"] == allowed
    headers = {"origin": "http://localhost:3000", "authorization": "Bearer s3cret"}
    assert httpx.post(url, json=CHAT, headers=headers).headers["access-control-allow-origin"] == allowed
    assert httpx.options(f"{running.url}/v1/models").status_code == 401  # not a preflight


def test_cors_refuses_other_origins(serve, target):
    running = serve(target, cors_origins=["http://localhost:3000"])
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{running.url}/v1/models", headers=asked).headers
