"""Forced tool calls of a random model: valid arguments in every format, and the same with and without drafting."""

from __future__ import annotations

import json
import sys

import httpx
import jsonschema
import pytest

pytest.importorskip("llguidance")
HELLO = [{"role": "user", "content": "hello"}]
SCHEMAS = {
    "get_weather": {
        "type": "object",
        "$defs": {"city": {"enum": ["Bern", "Zürich"]}},
        "properties": {"city": {"$ref": "#/$defs/city"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "set_size": {
        "properties": {"size": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["size"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
NAMED = {"type": "function", "function": {"name": "set_size"}}
ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}


@pytest.fixture
def post(serve, target_with_template, templates):
    """post(template, path, **body): the reply of a new server's random model."""

    def send(template="hermes", path="/v1/chat/completions", **body):
        running = serve(target_with_template(templates[template]), context=400)
        usual = {"model": "tiny", "temperature": 0, "tools": TOOLS, "parallel_tool_calls": False}
        usual |= {"input": "hello"} if path == "/v1/responses" else {"messages": HELLO}
        return httpx.post(running.url + path, json={**usual, **body}, timeout=60)

    return send


def choice_of(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


@pytest.mark.parametrize("template", ["hermes", "llama3", "mistral"])
@pytest.mark.parametrize(("choice", "reason"), [("required", "tool_calls"), (NAMED, "stop")], ids=str)
def test_calls_are_valid_and_equal_plain_decoding(post, template, choice, reason):
    found = choice_of(post(template, tool_choice=choice))
    (call,) = found["message"]["tool_calls"]
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    jsonschema.validate(json.loads(arguments), {**SCHEMAS[name], "type": "object"})
    assert name == "set_size" or choice == "required"
    assert found["message"]["content"] is None
    assert found["finish_reason"] == reason
    plain = choice_of(post(template, tool_choice=choice, speculative="off"))
    assert plain["message"]["tool_calls"][0]["function"] == call["function"]


def test_arguments_are_streamed(post):
    reply = post(tool_choice="required", stream=True)
    parts = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    calls = [call for part in parts for call in part["choices"][0]["delta"].get("tool_calls", ())]
    assert len(calls) > 1  # forced text comes in one cycle
    arguments = "".join(call["function"]["arguments"] for call in calls)
    jsonschema.validate(json.loads(arguments), {**SCHEMAS[calls[0]["function"]["name"]], "type": "object"})


def test_responses_name_the_function_in_their_own_form(post):
    tools = [{"type": "function", "name": name, "parameters": schema} for name, schema in SCHEMAS.items()]
    choice = {"type": "function", "name": "get_weather"}
    reply = post(path="/v1/responses", tools=tools, tool_choice=choice).json()
    (call,) = reply["output"]
    assert (reply["status"], call["type"], call["name"]) == ("completed", "function_call", "get_weather")
    jsonschema.validate(json.loads(call["arguments"]), SCHEMAS["get_weather"])


def test_a_call_or_an_answer_by_schema(post):
    message = choice_of(post(response_format=FORMAT))["message"]
    if message.get("tool_calls"):
        function = message["tool_calls"][0]["function"]
        jsonschema.validate(json.loads(function["arguments"]), {**SCHEMAS[function["name"]], "type": "object"})
    else:
        jsonschema.validate(json.loads(message["content"]), ANSWER)


@pytest.mark.parametrize("template", ["llama3", "mistral"])
def test_formats_whose_calls_begin_like_json(post, template):
    """With the byte tokenizer, Mistral's marker is text that begins like a list."""
    error = post(template, response_format=FORMAT).json()["error"]
    assert (error["param"], error["code"]) == ("response_format", "unsupported_parameter")


def test_errors(post, monkeypatch):
    bad = {"type": "function", "function": {"name": "bad", "parameters": {"properties": {"a": {"uniqueItems": True}}}}}
    error = post(tools=[*TOOLS, bad], tool_choice="required").json()["error"]
    assert (error["param"], error["code"]) == ("tools", "invalid_value")
    assert error["message"].startswith("tools: the parameters of 'bad': Unimplemented keys")
    monkeypatch.setitem(sys.modules, "llguidance", None)
    error = post(tool_choice="required").json()["error"]
    assert (error["param"], error["code"]) == ("tool_choice", "unsupported_parameter")
    assert "llguidance, which is not installed" in error["message"]
