"""/v1/responses with OpenAI's client: text, tools, reasoning, whole and as events."""

from __future__ import annotations

import httpx
import openai
import pytest

HELLO = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True},
    {"type": "function", "name": "get_time", "description": "Time", "parameters": None, "strict": False},
]
CALLS = (
    '<think>Two.</think>Well.\n<tool_call>{"name": "get_weather", "arguments": {"city": "Bern"}}</tool_call>'
    '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
)


@pytest.fixture
def start(serve, target_with_template, templates, script):
    """start(text): a client of a server whose answers are this text, and the server."""
    clients = []

    def run(text="Yes", template="hermes", **options):
        target = target_with_template(templates[template])
        script(target, text)
        options = {"context": 500, "kind": "none", "parsers": {"reasoning_parser": "think"}, **options}
        running = serve(target, **options)
        clients.append(openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0))
        return clients[-1], running

    yield run
    for client in clients:
        client.close()


def test_text(start):
    client, running = start("Yes, it is.")
    reply = client.responses.create(model="tiny", input="hello", instructions="Be brief.", metadata={"a": "b"})
    assert reply.output_text == "Yes, it is."
    assert (reply.status, reply.object, reply.model, reply.error) == ("completed", "response", "tiny", None)
    (message,) = reply.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    usage = reply.usage
    assert usage.input_tokens == len(running.target.tokenizer.encode(prompt))
    assert (usage.output_tokens, usage.total_tokens) == (12, usage.input_tokens + 12)
    assert usage.output_tokens_details.reasoning_tokens == 0
    assert reply.to_dict()["store"] is False
    assert reply.metadata == {"a": "b"}


def test_events_of_a_text(start):
    client, _ = start("Yes, it is.")
    events = list(client.responses.create(model="tiny", input=HELLO, stream=True))
    types = list(dict.fromkeys(event.type for event in events))
    assert types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Yes, it is."
    assert events[0].response.status == "in_progress"
    assert events[-1].response.output_text == "Yes, it is."
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1
    with client.responses.stream(model="tiny", input="hello") as stream:
        list(stream)
        assert stream.get_final_response().output_text == "Yes, it is."


@pytest.mark.parametrize("stream", [False, True])
def test_calls_and_reasoning(start, stream):
    client, _ = start(CALLS)
    asked = {"model": "tiny", "input": HELLO, "tools": TOOLS}
    if stream:
        with client.responses.stream(**asked) as events:
            deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
            reply = events.get_final_response()
        assert len(deltas) > 3
        assert "".join(event.delta for event in deltas) == '{"city": "Bern"}{}'
    else:
        reply = client.responses.create(**asked)
    assert reply.status == "completed"
    reasoning, message, weather, time = reply.output
    assert (reasoning.type, reasoning.content[0].text, reasoning.summary) == ("reasoning", "Two.", [])
    assert (message.type, message.content[0].text) == ("message", "Well.")
    assert (weather.type, weather.name, weather.arguments) == ("function_call", "get_weather", '{"city": "Bern"}')
    assert (time.name, time.arguments, time.status) == ("get_time", "{}", "completed")
    assert weather.call_id != time.call_id
    assert reply.usage.output_tokens_details.reasoning_tokens > 0


def test_the_next_turn(start, monkeypatch):
    """The output goes back as input; reasoning, text and calls are one message of the template."""
    client, running = start(CALLS)
    asked = {"model": "tiny", "tools": TOOLS, "max_output_tokens": 200}
    first = client.responses.create(input=HELLO, **asked)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in first.output
        if item.type == "function_call"
    ]
    rendered = []
    render = type(running.target.tokenizer).render
    monkeypatch.setattr(
        type(running.target.tokenizer),
        "render",
        lambda self, messages, **options: rendered.append(messages) or render(self, messages, **options),
    )
    client.responses.create(input=[*HELLO, *first.output, *outputs], **{**asked, "max_output_tokens": 1})
    user, assistant, *results = rendered[0]
    assert user == HELLO[0]
    assert (assistant["content"], assistant["reasoning_content"]) == ("Well.", "Two.")
    assert [call["function"] for call in assistant["tool_calls"]] == [
        {"name": "get_weather", "arguments": {"city": "Bern"}},
        {"name": "get_time", "arguments": {}},
    ]
    assert [result["content"] for result in results] == ["sunny", "sunny"]
    assert [result["tool_call_id"] for result in results] == [call["id"] for call in assistant["tool_calls"]]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_off(start, stream):
    client, _ = start("Yes, it is.")
    reply = client.responses.create(model="tiny", input="hello", max_output_tokens=3, stream=stream)
    if stream:
        last = list(reply)[-1]
        assert last.type == "response.incomplete"
        reply = last.response
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (reply.output[0].status, reply.output_text) == ("incomplete", "Yes")


def test_a_call_that_is_cut_off(start):
    client, _ = start('<tool_call>{"name": "get_time", "arguments": {"x": "abc')
    *_, last = client.responses.create(model="tiny", input="hello", tools=TOOLS, stream=True)
    (call,) = last.response.output
    assert (call.type, call.status, call.arguments) == ("function_call", "incomplete", '{"x": "abc')


def test_an_empty_answer(start):
    client, _ = start("")
    reply = client.responses.create(model="tiny", input="hello")
    assert (reply.status, reply.output_text, len(reply.output)) == ("completed", "", 1)


def test_a_stream_that_fails(start, monkeypatch):
    client, running = start("Yes")
    monkeypatch.setattr("edgeai.spec.serve.answers.answer_parser.AnswerParser.feed", lambda *args: 1 / 0)
    *_, last = client.responses.create(model="tiny", input="hello", stream=True)
    assert (last.type, last.response.status, last.response.error.code) == ("response.failed", "failed", "server_error")
    assert running.idle()


def item(**values):
    return {"input": [*HELLO, values]}


STORED = "' is not supported by this server, which stores no responses: send the whole conversation as 'input'"
REFUSALS = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "'previous_response_id" + STORED),
    ({"conversation": "conv_1"}, "conversation", "'conversation" + STORED),
    ({"background": True}, "background", "'background' is not supported by this server"),
    ({"truncation": "auto"}, "truncation", "'truncation' is not supported by this server"),
    ({"include": ["message.output_text.logprobs"]}, "include", "'include' is not supported by this server"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort", "reasoning.effort: Input should be 'none'"),
    ({"messages": HELLO}, "messages", "unrecognized request argument: messages"),
    ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens: Input should be greater than or equal to 1"),
    ({"input": []}, "input", "input: "),
    ({"input": ""}, "input", "input: "),
    ({"input": "x" * 600}, "input", "This model's maximum context length is 500 tokens. However, your input resulted"),
    (
        item(type="item_reference", id="msg_1"),
        "input.1",
        "input.1: the type of an item must be message, function_call,",
    ),
    (item(role="tool", content="x"), "input.1.role", "input.1.role: Input should be 'system', 'developer', 'user' or"),
    (
        item(type="function_call", call_id="a", name="f", arguments="{"),
        "input.1.arguments",
        "input.1.arguments: not a JSON object",
    ),
    (
        item(role="user", content=[{"type": "input_image", "image_url": "x"}]),
        "input.1.content.0.type",
        "input.1.content.0.type: Input should be 'input_text', 'output_text' or 'text'",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools.0.name", "tools.0.name: Field required"),
    ({"tools": [TOOLS[0], TOOLS[0]]}, None, "tools: two functions are named 'get_weather'"),
    ({"tool_choice": {"type": "function", "name": "f"}}, None, "tool_choice: no tool has this name"),
]


def test_refusals(start):
    _, running = start()
    with httpx.Client(base_url=running.url) as client:
        for changes, param, message in REFUSALS:
            reply = client.post("/v1/responses", json={"model": "tiny", "input": "hi", **changes})
            assert reply.status_code == 400, (changes, reply.text)
            error = reply.json()["error"]
            assert (error["param"], error["message"].startswith(message)) == (param, True), (message, error)
        harmless = {
            "store": True,
            "user": "someone",
            "include": ["reasoning.encrypted_content"],
            "reasoning": {"effort": None, "summary": None},
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "truncation": "disabled",
            "stream_options": {"include_obfuscation": False},
        }
        assert client.post("/v1/responses", json={"model": "tiny", "input": "hi", **harmless}).is_success
        assert client.get("/v1/responses/resp_1").json()["error"]["code"] == "unknown_url"
        assert client.post("/v1/responses", json={"model": "other", "input": "hi"}).status_code == 404


def test_templates_without_calls(start):
    client, _ = start(template="plain")
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    with pytest.raises(openai.BadRequestError, match="input: this model's chat template has no tool calls"):
        client.responses.create(model="tiny", input=[*HELLO, call])
