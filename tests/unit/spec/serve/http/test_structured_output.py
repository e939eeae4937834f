"""Structured output over HTTP: OpenAI's and vLLM's fields, combinations, and errors before anything runs."""

from __future__ import annotations

import json
import re
import sys

import httpx
import jsonschema
import openai
import pydantic
import pytest

from edgeai.spec.constraints.constraint import ConstraintError
from edgeai.spec.constraints.grammar import GrammarCompiler

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def running(serve, target_with_template, templates):
    pytest.importorskip("llguidance")
    return serve(target_with_template(templates["hermes"]), context=300)


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def post(running):
    def send(path="/v1/chat/completions", **body):
        usual = {"model": "tiny", "temperature": 0, "max_tokens": 120}
        usual |= {"prompt": "hello"} if path == "/v1/completions" else {"messages": HELLO}
        return httpx.post(running.url + path, json={**usual, **body}, timeout=60)

    return send


def content_of(reply):
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    return choice["message"]["content"] if "message" in choice else choice["text"]


class Thing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    count: int = pydantic.Field(ge=0, le=20)
    kind: str = pydantic.Field(pattern="^(a|b)$")


def test_the_client_parses_its_own_class(client):
    reply = client.chat.completions.parse(model="tiny", messages=HELLO, response_format=Thing, max_tokens=100)
    assert reply.choices[0].message.parsed.kind in ("a", "b")
    reply = client.responses.parse(model="tiny", input="hello", text_format=Thing, max_output_tokens=100)
    assert 0 <= reply.output_parsed.count <= 20


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "field",
    [
        {"response_format": FORMAT},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA), "regex": None, "disable_any_whitespace": True}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA), "response_format": {"type": "text"}},
    ],
    ids=str,
)
def test_schemas(post, path, field):
    jsonschema.validate(json.loads(content_of(post(path, **field))), SCHEMA)


@pytest.mark.parametrize(
    ("field", "pattern"),
    [
        ({"structured_outputs": {"regex": "[ab]{2,4}c"}}, "[ab]{2,4}c"),
        ({"guided_regex": "[ab]{2,4}c"}, "[ab]{2,4}c"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
        ({"guided_choice": ["yes", "no"]}, "yes|no"),
        ({"structured_outputs": {"grammar": 'root ::= "x" [0-9] "y"'}}, "x[0-9]y"),
        ({"guided_grammar": 'start: "x" /[0-9]/ "y"'}, "x[0-9]y"),
    ],
    ids=str,
)
def test_other_constraints(post, field, pattern):
    assert re.fullmatch(pattern, content_of(post(**field)))


@pytest.mark.parametrize(
    "field", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
def test_json_objects(post, running, field):
    ending = {str(running.target.tokenizer.encode(char)[0]): 10 for char in '"}'}
    assert isinstance(json.loads(content_of(post(**field, logit_bias=ending, max_tokens=200))), dict)


def test_it_combines_with_choices_streams_stops_and_logprobs(client):
    options = {"model": "tiny", "messages": HELLO, "max_tokens": 120, "seed": 1, "response_format": FORMAT}
    whole = client.chat.completions.create(**options, n=3, logprobs=True, top_logprobs=2, frequency_penalty=0.5)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**options, n=3, frequency_penalty=0.5, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    plain = client.chat.completions.create(**options, n=3, frequency_penalty=0.5, extra_body={"speculative": "off"})
    assert [choice.message.content for choice in plain.choices] == texts
    stopped = client.chat.completions.create(**options, stop=['"size"'])
    assert stopped.choices[0].message.content.endswith('", ')


def test_reasoning_comes_first(serve, target_with_template, templates):
    """The byte tokenizer has no token for the marks, so that a prompt that opens the reasoning is refused."""
    pytest.importorskip("llguidance")
    running = serve(target_with_template(templates["thinking"]), context=300)
    body = {"model": "tiny", "messages": HELLO, "response_format": FORMAT}
    error = httpx.post(f"{running.url}/v1/chat/completions", json=body).json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert error["param"] == "response_format"
    assert "reasoning" in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strng"}}}},
            "response_format",
            "invalid_value",
            "response_format: Invalid type: strng",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "invalid_value",
            "response_format.json_schema.name: Field required",
        ),
        ({"response_format": {"type": "yaml"}}, "response_format", "invalid_value", None),
        (
            {"structured_outputs": {"json": {"uniqueItems": True}}},
            "structured_outputs",
            "invalid_value",
            'structured_outputs: Unimplemented keys: ["uniqueItems"]',
        ),
        (
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            "structured_outputs",
            "invalid_value",
            "structured_outputs: exactly one of json, regex, choice, grammar and json_object is needed",
        ),
        (
            {"structured_outputs": {"xml": "a"}},
            "structured_outputs.xml",
            "unknown_parameter",
            "unrecognized request argument: structured_outputs.xml",
        ),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs.structural_tag", "invalid_value", None),
        (
            {"guided_json": {}, "response_format": FORMAT},
            "guided_json",
            "unsupported_parameter",
            "response_format and guided_json cannot be combined",
        ),
        ({"guided_choice": []}, "guided_choice", "invalid_value", None),
        ({"guided_regex": "a" * 65537}, "guided_regex", "invalid_value", "guided_regex: longer than 65536 characters"),
        (
            {"structured_outputs": {"regex": "a"}, "tools": [TOOL]},
            "structured_outputs",
            "unsupported_parameter",
            "structured_outputs: only a JSON schema can be combined with tools that the model may call",
        ),
    ],
    ids=str,
)
def test_errors_come_before_anything_runs(post, running, body, param, code, message):
    running.engine.submit = None
    reply = post(**body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert "\n" not in error["message"]
    if message is not None:
        assert error["message"] == message


def test_tools_that_cannot_be_called_do_not_matter(post):
    reply = post(response_format=FORMAT, tools=[TOOL], tool_choice="none")
    jsonschema.validate(json.loads(content_of(reply)), SCHEMA)


def test_responses_name_their_own_field(running):
    text = {"format": {"type": "json_schema", "name": "a", "schema": {"type": "strng"}}}
    reply = httpx.post(f"{running.url}/v1/responses", json={"model": "tiny", "input": "hello", "text": text})
    assert reply.json()["error"]["param"] == "text.format"


def test_missing_library(running, post, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    error = post(response_format=FORMAT).json()["error"]
    assert error == {
        "message": "response_format: structured output needs the package llguidance, which is not installed",
        "type": "invalid_request_error",
        "param": "response_format",
        "code": "unsupported_parameter",
    }
    content = post(response_format={"type": "text"}, max_tokens=3)
    assert content.status_code == 200


def test_a_limit_exceeded_later_is_an_error_of_the_request(post, running, monkeypatch):
    compile = GrammarCompiler.compile

    class Failing:
        def __init__(self, grammar):
            self.start = lambda: self
            self.mask = grammar.start().mask

        def advance(self, token):
            raise ConstraintError("too complex")

    monkeypatch.setattr(GrammarCompiler, "compile", lambda self, source: Failing(compile(self, source)))
    reply = post(response_format=FORMAT)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "response_format"
    assert error["message"] == "response_format: the grammar cannot be followed: too complex"
    assert running.idle()
