"""schemathesis against the server's OpenAPI description: no response has status 500, and no slot is lost."""

from __future__ import annotations

import json
import random
import warnings

import httpx
import pytest

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

pytestmark = pytest.mark.slow


def test_random_requests(serve, target):
    running = serve(target, num_slots=4, context=40)
    schema = schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json").json())
    statuses: set[int] = set()
    addresses: set[str] = set()

    @hypothesis.settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema.as_strategy())
    def fuzz(case):
        reply = case.call(base_url=running.url, timeout=60)
        statuses.add(reply.status_code)
        addresses.add(case.operation.path)
        assert reply.status_code < 500, (case.as_curl_command(), reply.text)
        if reply.status_code >= 400:
            assert set(json.loads(reply.content)["error"]) == {"message", "type", "param", "code"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/"} <= addresses
    assert {200, 400, 404} <= statuses
    assert running.idle()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_random_requests_with_the_right_model(serve, target, path):
    """Requests generated from the schema alone fail the check of the model's name."""
    running = serve(target, num_slots=4, context=40)
    schema = schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json").json())
    statuses: set[int] = set()

    @hypothesis.settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema[path]["POST"].as_strategy())
    def fuzz(case):
        hypothesis.assume(isinstance(case.body, dict))
        case.body["model"] = "tiny"
        reply = case.call(base_url=running.url, timeout=60)
        statuses.add(reply.status_code)
        assert reply.status_code < 500, (case.as_curl_command(), reply.text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz()
    assert 200 in statuses
    assert running.idle()


NUMBERS = [0, 1, -1, 2, 20, 127, 128, -(2**63), 2**63 - 1, 2**64, 10**300, 0.5, 1e-320, 1e-50, 1e308, -2.0]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLS = [
    {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
]
ITEMS = [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}, {"role": "user", "content": "a"}]
LISTS = [
    [],
    [1],
    ["a"],
    [[1, 2]],
    [[]],
    [None],
    [{"role": "tool", "content": "x"}],
    [{"type": "text", "text": "hi"}],
    [TOOL],
    CALLS,
    ITEMS,
]
OBJECTS = [
    TOOL,
    {"type": "function", "function": {"name": "f"}},
    {},
    {"5": 1},
    {"5": -100, "7": 100},
    {"a": [{}]},
    {"type": "text"},
    {"include_usage": True},
]
VALUES = [None, True, False, "", "a", "none", "auto", "é🙂", "\x00", "a" * 300, *NUMBERS, *LISTS, *OBJECTS]
NAMES = [
    *("model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p"),
    *("seed", "stop", "n", "frequency_penalty", "presence_penalty", "logit_bias", "stream", "stream_options"),
    *("speculative", "logprobs", "top_logprobs", "stop_token_ids", "return_token_ids", "chat_template_kwargs"),
    *("tools", "tool_choice", "parallel_tool_calls", "thinking", "echo", "best_of", "metadata", "response_format"),
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("input", "instructions", "max_output_tokens", "text", "reasoning", "previous_response_id", "unknown"),
]


def test_any_value_in_any_field(serve, target_with_template, templates):
    running = serve(target_with_template(templates["hermes"]), context=90)
    rng = random.Random(1)
    statuses: set[int] = set()
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for _ in range(3000):
            chat = {"messages": [{"role": "user", "content": rng.choice(["hi", [{"type": "text", "text": "x"}]])}]}
            text = {"prompt": rng.choice(["hi", [1, 2], ["a", "b"], [[3]]])}
            path, body, limit = rng.choice(
                [
                    ("/v1/chat/completions", chat, "max_tokens"),
                    ("/v1/completions", text, "max_tokens"),
                    ("/v1/responses", {"input": "hi"}, "max_output_tokens"),
                ]
            )
            body |= {"model": "tiny", limit: rng.choice([1, 2, 5])}
            body |= {name: rng.choice(VALUES) for name in rng.sample(NAMES, rng.choice([1, 1, 2, 3]))}
            reply = client.post(path, json=body)
            statuses.add(reply.status_code)
            assert reply.status_code < 500, (body, reply.text)
            assert "internal_error" not in reply.text, body
    assert statuses == {200, 400, 404}
    assert running.idle()


KEYWORDS = (
    "type",
    "properties",
    "items",
    "$ref",
    "$defs",
    "enum",
    "const",
    "pattern",
    "minLength",
    "maxItems",
    "anyOf",
)
KEYWORDS += ("allOf", "oneOf", "required", "additionalProperties", "multipleOf", "minimum", "format", "x-guidance")
PARTS = [
    *VALUES,
    "string",
    "object",
    "array",
    "number",
    "#",
    "#/$defs/a",
    "date-time",
    r"^(a|b)*\d{2,}$",
    "(",
    "[a-",
    1e9,
]
GRAMMARS = [
    "root ::= [a-z]+",
    'start: "a" start | %json {"type": "null"}',
    "start: /(a|b)*c/",
    "root ::= root",
    "start: x",
]
REGEXES = [
    "(a{500}){500}",
    r"\p{L}+\u0000",
    "(a|aa)*b",
    r"[^\x00-\x{10ffff}]",
    "(?i)a(?-i)b",
    "a**",
    "^$",
    "|",
    r"\b\w+$",
]


def random_schema(rng, depth=3):
    """Return something like a JSON schema: right keywords, often with wrong values."""
    found = {}
    for name in rng.sample(KEYWORDS, rng.choice([0, 1, 1, 2, 3])):
        nested = [random_schema(rng, depth - 1) for _ in range(2)] if depth else []
        found[name] = rng.choice([*PARTS, *nested, nested, {"a": nested[0]} if nested else 1, ["a"]])
    return found


def test_random_grammars(serve, target_with_template, templates):
    pytest.importorskip("llguidance")
    running = serve(target_with_template(templates["hermes"]), context=90)
    rng = random.Random(2)
    statuses: list[int] = []
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for _ in range(3000):
            kind = rng.choice(["json", "json", "json", "regex", "grammar", "choice"])
            value = {
                "json": random_schema(rng),
                "regex": "".join(rng.sample(REGEXES, 2)),
                "grammar": "".join(rng.sample([*GRAMMARS, *REGEXES, "\n"], 2)),
                "choice": [
                    rng.choice(["", "a", "ab", "é🙂", "\x00", '"\\', "a" * 300]) for _ in range(rng.choice([1, 3]))
                ],
            }[kind]
            body = {
                "model": "tiny",
                "prompt": "hi",
                "max_tokens": rng.choice([1, 2, 20]),
                "temperature": rng.choice([0, 1]),
            }
            reply = client.post("/v1/completions", json={**body, "structured_outputs": {kind: value}})
            statuses.append(reply.status_code)
            assert reply.status_code in (200, 400), (value, reply.text)
            if reply.status_code == 400:
                error = reply.json()["error"]
                assert error["param"], value
    assert min(statuses.count(200), statuses.count(400)) > 300
    assert running.idle()
