"""Tools with OpenAI's client: what the template gets, calls in whole answers and streams, and refusals."""

from __future__ import annotations

import httpx
import openai
import pytest

from edgeai.spec.serve.http.messages.tool_schema import MAX_SCHEMA_CHARS

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TIME = {"type": "function", "function": {"name": "get_time", "description": "Time of day"}}
ZURICH = '{"city": "Zürich"}'
WRITTEN = {
    "hermes": 'Well.\n<tool_call>{"name": "get_weather", "arguments": A}</tool_call>\n'
    '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>',
    "llama3": '<|python_tag|>{"name": "get_weather", "parameters": A}; {"name": "get_time", "parameters": {}}',
    "mistral": '[TOOL_CALLS] [{"name": "get_weather", "arguments": A}, {"name": "get_time", "arguments": {}}]',
}


@pytest.fixture
def start(serve, target_with_template, templates, script):
    """start(template, text): a client of a server whose answers are this text, and the server."""
    clients = []

    def run(template, text="", **options):
        target = target_with_template(templates[template])
        script(target, text.replace("A}", ZURICH + "}", 1))
        running = serve(target, **{"context": 500, "kind": "none", **options})
        clients.append(openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0))
        return clients[-1], running

    yield run
    for client in clients:
        client.close()


def collect(stream):
    """Message, finish reason and number of chunks with arguments of a stream of one answer."""
    message, calls, reason, num_argument_chunks = {"content": "", "reasoning": ""}, [], None, 0
    for chunk in stream:
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        message["content"] += delta.content or ""
        message["reasoning"] += getattr(delta, "reasoning", None) or ""
        for part in delta.tool_calls or ():
            if part.index == len(calls):
                calls.append([part.id, part.function.name, ""])
            calls[part.index][2] += part.function.arguments
            num_argument_chunks += bool(part.function.arguments)
        reason = chunk.choices[0].finish_reason or reason
    return message, calls, reason, num_argument_chunks


@pytest.mark.parametrize("style", WRITTEN)
def test_calls(start, style):
    client, _ = start(style, WRITTEN[style], kind="eagle3")
    asked = {"model": "tiny", "messages": HELLO, "tools": [WEATHER, TIME]}
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == ("Well." if style == "hermes" else None)
    first, second = choice.message.tool_calls
    assert (first.type, first.function.name, first.function.arguments) == ("function", "get_weather", ZURICH)
    assert (second.type, second.function.name, second.function.arguments) == ("function", "get_time", "{}")
    assert first.id != second.id
    message, calls, reason, num_argument_chunks = collect(client.chat.completions.create(**asked, stream=True))
    assert message["content"] == (choice.message.content or "")
    assert [call[1:] for call in calls] == [["get_weather", ZURICH], ["get_time", "{}"]]
    assert all(call[0] for call in calls)
    assert reason == "tool_calls"
    assert num_argument_chunks > 3


@pytest.mark.parametrize("style", WRITTEN)
def test_the_next_turn(start, style):
    """What the client got goes back as it came; the template gets arguments as objects and the tool's answer."""
    client, running = start(style, WRITTEN[style])
    asked = {"model": "tiny", "tools": [WEATHER, TIME], "extra_body": {"return_token_ids": True}}
    message = client.chat.completions.create(messages=HELLO, **asked).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    reply = client.chat.completions.create(messages=[*HELLO, message, *results], max_tokens=1, **asked)
    prompt = running.target.tokenizer.decode(reply.prompt_token_ids)
    assert "get_weather get_time\n" in prompt
    key = "parameters" if style == "llama3" else "arguments"
    assert f'{{"name": "get_weather", "{key}": {ZURICH}}}' in prompt
    assert "None" not in prompt
    for call in message.tool_calls:
        assert f"tool\n{call.id}{call.function.name}sunny" in prompt


def test_openai_helpers(start):
    client, _ = start("hermes", WRITTEN["hermes"])
    with client.chat.completions.stream(model="tiny", messages=HELLO, tools=[WEATHER, TIME]) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.name, event.arguments) for event in done] == [("get_weather", ZURICH), ("get_time", "{}")]
    assert final.finish_reason == "tool_calls"
    assert [call.function.name for call in final.message.tool_calls] == ["get_weather", "get_time"]


@pytest.mark.parametrize("stream", [False, True])
def test_options(start, stream):
    client, _ = start("hermes", WRITTEN["hermes"])

    def ask(**changes):
        reply = client.chat.completions.create(
            **{"model": "tiny", "messages": HELLO, "tools": [WEATHER, TIME], "stream": stream, **changes}
        )
        if stream:
            message, calls, reason, _ = collect(reply)
            return message["content"], [call[1] for call in calls], reason
        choice = reply.choices[0]
        names = [call.function.name for call in choice.message.tool_calls or ()]
        return choice.message.content or "", names, choice.finish_reason

    whole = WRITTEN["hermes"].replace("A}", ZURICH + "}")
    assert ask(parallel_tool_calls=False) == ("Well.", ["get_weather"], "tool_calls")
    assert ask(tool_choice="none") == (whole, [], "stop")
    assert ask(tool_choice="auto") == ("Well.", ["get_weather", "get_time"], "tool_calls")
    assert ask(tools=[TIME])[1] == ["get_time"]
    content, names, reason = ask(max_tokens=65)
    assert content.startswith("Well.")
    assert reason == "length"
    assert names == (["get_weather"] if stream else [])


def test_several_answers_with_log_probabilities(start):
    client, running = start("hermes", WRITTEN["hermes"])
    asked = {"model": "tiny", "messages": HELLO, "tools": [WEATHER, TIME], "n": 2, "logprobs": True}
    reply = client.chat.completions.create(**asked)
    for choice in reply.choices:
        assert [call.function.name for call in choice.message.tool_calls] == ["get_weather", "get_time"]
        raw = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content).decode()
        assert raw.startswith(WRITTEN["hermes"].replace("A}", ZURICH + "}"))
    assert len({call.id for choice in reply.choices for call in choice.message.tool_calls}) == 4
    assert running.idle()


def test_content_that_is_no_call_is_unchanged(start):
    text = 'A < b, <tool_calls> and <tool_call>{"name": "other", "arguments": {}}</tool_call> \n'
    client, _ = start("hermes", text)
    asked = {"model": "tiny", "messages": HELLO, "tools": [WEATHER]}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.message.content == text
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    message, calls, reason, _ = collect(client.chat.completions.create(**asked, stream=True))
    assert (message["content"], calls, reason) == (text, [], "stop")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("template", "text"), [("hermes", "<think>\nOne.\n</think>\n\nYes"), ("thinking", "One.</think>Yes")]
)
def test_reasoning(start, template, text, stream):
    parsers = {"reasoning_parser": "think"} if template == "hermes" else {}
    client, running = start(template, text, parsers=parsers)
    reply = client.chat.completions.create(model="tiny", messages=HELLO, stream=stream)
    if stream:
        message, calls, reason, _ = collect(reply)
        assert (message, calls, reason) == ({"content": "Yes", "reasoning": "One."}, [], "stop")
    else:
        message = reply.choices[0].message
        assert (message.content, message.reasoning, message.reasoning_content) == ("Yes", "One.", "One.")
        assert 0 < reply.usage.completion_tokens_details.reasoning_tokens < reply.usage.completion_tokens
        again = client.chat.completions.create(
            model="tiny", messages=[*HELLO, message, *HELLO], extra_body={"return_token_ids": True}
        )
        assert "<think>One.</think>Yes" in running.target.tokenizer.decode(again.prompt_token_ids)


def test_reasoning_before_calls(start):
    client, _ = start("thinking", "Call <tool_call> now.</think>\n" + WRITTEN["hermes"].removeprefix("Well.\n"))
    asked = {"model": "tiny", "messages": HELLO, "tools": [WEATHER, TIME]}
    message = client.chat.completions.create(**asked).choices[0].message
    assert message.reasoning == "Call <tool_call> now."
    assert message.content is None
    assert len(message.tool_calls) == 2
    found, calls, reason, _ = collect(client.chat.completions.create(**asked, stream=True))
    assert (found["reasoning"], found["content"], len(calls), reason) == (message.reasoning, "", 2, "tool_calls")


def test_reasoning_stays_in_the_content_if_the_template_has_none(start):
    client, _ = start("mistral", "<think>One.</think>Yes")
    message = client.chat.completions.create(model="tiny", messages=HELLO).choices[0].message
    assert message.content == "<think>One.</think>Yes"
    assert not hasattr(message, "reasoning")


CALL = {"id": "a", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}


def called(**changes):
    return [*HELLO, {"role": "assistant", "content": None, "tool_calls": [{**CALL, **changes}]}]


def function(**changes):
    return {"tools": [{"type": "function", "function": {"name": "f", **changes}}]}


def arguments(text):
    return {"messages": called(function={"name": "f", "arguments": text})}


REFUSALS = [
    (function(name="a b"), "tools.0.function.name", "String should match pattern"),
    (function(name="x" * 65), "tools.0.function.name", "String should match pattern"),
    (function(parameters=[]), "tools.0.function.parameters", "Input should be a valid dictionary"),
    (function(parameters={"type": "string"}), "tools.0.function.parameters", "must be of type object"),
    (
        function(parameters={"properties": {"a": {"type": "text"}}}),
        "tools.0.function.parameters",
        "properties.a.type is not valid in a JSON schema",
    ),
    (
        function(parameters={"properties": {"a": 1}}),
        "tools.0.function.parameters",
        "properties.a is not a JSON schema",
    ),
    (function(parameters={"required": "a"}), "tools.0.function.parameters", "required is not valid in a JSON schema"),
    (
        function(parameters={"anyOf": [{"enum": []}]}),
        "tools.0.function.parameters",
        "anyOf.0.enum is not valid in a JSON schema",
    ),
    (
        function(parameters={"title": "x" * MAX_SCHEMA_CHARS}),
        "tools.0.function.parameters",
        f"the JSON schema is longer than {MAX_SCHEMA_CHARS} characters",
    ),
    (function(returns={}), "tools.0.function.returns", "unrecognized request argument"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type", "Input should be 'function'"),
    ({"tools": [TIME] * 129}, "tools", "List should have at most 128 items"),
    ({"tools": [TIME, TIME]}, None, "tools: two functions are named 'get_time'"),
    ({"tool_choice": "required"}, None, "tool_choice: 'required' needs tools"),
    (
        {"tools": [TIME], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        None,
        "tool_choice: no tool has this name",
    ),
    ({"tools": [TIME], "tool_choice": "any"}, "tool_choice", "Input should be 'none', 'auto' or 'required'"),
    (arguments("{"), "messages.1.tool_calls.0.function.arguments", "not a JSON object"),
    (arguments("[]"), "messages.1.tool_calls.0.function.arguments", "not a JSON object"),
    (arguments('{"a": NaN}'), "messages.1.tool_calls.0.function.arguments", "not a JSON object"),
    (arguments('{"a": "\\ud800"}'), "messages.1.tool_calls.0.function.arguments", "a lone surrogate"),
    (arguments('{"a":' * 100 + "1" + "}" * 100), "messages.1.tool_calls.0.function.arguments", "nested too deeply"),
    (arguments('{"a":' * 5000 + "1" + "}" * 5000), "messages.1.tool_calls.0.function.arguments", "not a JSON object"),
    ({"messages": [*HELLO, {"role": "assistant", "content": None}]}, "messages.1", "content is required"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0", "content is required"),
    ({"messages": [{"role": "user", "content": "", "tool_calls": [CALL]}]}, "messages.0", "only messages of"),
    ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "messages.1", "needs tool_call_id"),
    ({"messages": [*HELLO, {"role": "function", "content": "x"}]}, "messages.1.role", "Input should be"),
]  # fmt: skip


def test_refusals(start):
    _, running = start("hermes")
    with httpx.Client(base_url=running.url) as client:
        for changes, param, message in REFUSALS:
            body = {"model": "tiny", "messages": HELLO, "max_tokens": 1, **changes}
            reply = client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 400, (message, reply.text)
            error = reply.json()["error"]
            assert (error["param"], message in error["message"]) == (param, True), (message, error)


@pytest.mark.parametrize(
    ("template", "parsers", "changes", "param", "message"),
    [
        (
            "plain",
            {},
            {"tools": [TIME]},
            "tools",
            "tools: this model's chat template has no tools in a known format; see the server's option tool_parser",
        ),
        ("plain", {"tool_parser": "hermes"}, {"tools": [TIME]}, "tools", "tools: this model's chat template has "),
        ("hermes", {"tool_parser": "none"}, {"tools": [TIME]}, "tools", "tools: this model's chat template has "),
        ("plain", {}, {"messages": called()}, "messages", "messages: this model's chat template has no tool calls"),
    ],
)
def test_templates_without_tools(start, template, parsers, changes, param, message):
    client, _ = start(template, "Yes", parsers=parsers)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": HELLO, **changes})
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert caught.value.body["message"].startswith(message)
    allowed = client.chat.completions.create(model="tiny", messages=HELLO, tools=[TIME], tool_choice="none")
    assert allowed.choices[0].message.content == "Yes"


def test_a_template_that_refuses_tools(start, templates, monkeypatch):
    monkeypatch.setitem(
        templates, "strict", "{% if tools %}{{ raise_exception('<tool_call> not now') }}{% endif %}tool_calls"
    )
    client, _ = start("strict", "Yes")
    with pytest.raises(openai.BadRequestError, match="the chat template refuses the messages: <tool_call> not now"):
        client.chat.completions.create(model="tiny", messages=HELLO, tools=[TIME])


def test_empty_arguments_and_parts_of_a_tool_message(start):
    client, running = start("hermes", "Yes")
    messages = called(function={"name": "get_time", "arguments": ""})
    messages.append({"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "noon"}]})
    reply = client.chat.completions.create(model="tiny", messages=messages, extra_body={"return_token_ids": True})
    prompt = running.target.tokenizer.decode(reply.prompt_token_ids)
    assert '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>' in prompt
    assert "tool\naget_timenoon" in prompt
