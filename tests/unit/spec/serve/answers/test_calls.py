"""Tool calls in text: the same parts however the text is divided, and malformed calls as content."""

from __future__ import annotations

import json
import random

import pytest

from edgeai.spec.serve.answers.answer_parser import ParsedAnswer
from edgeai.spec.serve.answers.calls import CallParser
from edgeai.spec.serve.answers.deltas import CallArguments, CallBegin
from edgeai.spec.serve.answers.tool_formats import HERMES, LLAMA3, MISTRAL, choose_format

NAMES = frozenset({"f", "get_weather"})


def parse(style, text, *, streams=False, is_parallel=True, cuts=()):
    parser, found = CallParser(style, NAMES, streams=streams, is_parallel=is_parallel), ParsedAnswer()
    for begin, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
        found.add(parser.feed(text[begin:end]))
    found.add(parser.finish())
    return found


def shown(found):
    return found.content, [(call.name, call.arguments) for call in found.calls], found.has_calls


ARGUMENTS = '{"city": "Zür\\"ich }{", "days": [1, {"a": "\\\\"}], "none": null}'
F, EMPTY = '{"name": "f", "%s": {"x": 1}}', '{ "name" :\n"f","%s":{}}'
WELL_FORMED = [
    (HERMES, "no call at all  \n", "no call at all  \n", []),
    (HERMES, f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>', "", ["get_weather"]),
    (HERMES, f"Let me see.\n\n<tool_call>{F}</tool_call>\n<tool_call>\n{EMPTY}\n</tool_call>\n", "Let me see.", "ff"),
    (HERMES, f"<tool_call>{F}</tool_call> done", " done", "f"),
    (HERMES, f"<tool_call>{F}", "", "f"),
    (HERMES, "a <tool_call", "a <tool_call", []),
    (HERMES, "a < b <tool> </tool_call>", "a < b <tool> </tool_call>", []),
    (LLAMA3, F, "", "f"),
    (LLAMA3, f"<|python_tag|>{F}; {EMPTY}", "", "ff"),
    (LLAMA3, f"\n {F}\n", "", "f"),
    (LLAMA3, f"See {F}", f"See {F}", []),
    (LLAMA3, '{"a": 1}', '{"a": 1}', []),
    (LLAMA3, "  ", "  ", []),
    (MISTRAL, f"[TOOL_CALLS] [{F}, {EMPTY}]", "", "ff"),
    (MISTRAL, f"Well [TOOL_CALLS][{F}]", "Well", "f"),
    (MISTRAL, "[TOOL_CALLS] none", "[TOOL_CALLS] none", []),
]


@pytest.mark.parametrize(("style", "text", "content", "names"), WELL_FORMED)
def test_calls_are_the_same_however_the_text_is_divided(style, text, content, names):
    text, content = (part.replace("%s", style.arguments_key) for part in (text, content))
    whole = shown(parse(style, text))
    assert whole[0] == content
    assert [name for name, _ in whole[1]] == list(names)
    assert whole[2] == bool(names)
    for _, arguments in whole[1]:
        assert isinstance(json.loads(arguments), dict)
    rng = random.Random(1)
    for _ in range(60):
        cuts = sorted(rng.sample(range(1, len(text)), min(rng.randint(0, 6), len(text) - 1)))
        assert shown(parse(style, text, cuts=cuts)) == whole, cuts
        assert shown(parse(style, text, streams=True, cuts=cuts)) == whole, cuts
    each = range(1, len(text))
    assert shown(parse(style, text, streams=True, cuts=each)) == whole


def test_arguments_are_those_of_the_model():
    text = f'<tool_call>{{"name": "get_weather", "arguments": {ARGUMENTS}}}</tool_call>'
    assert parse(HERMES, text).calls[0].arguments == ARGUMENTS


def test_keys_in_the_other_order():
    text = '<tool_call>{"arguments": {"x": "é"}, "name": "f"}</tool_call>'
    for streams in (False, True):
        assert shown(parse(HERMES, text, streams=streams)) == ("", [("f", '{"x": "é"}')], True)


MALFORMED = [
    "<tool_call>oops</tool_call>",
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f"}</tool_call>',
    '<tool_call>{"name": "\\x", "arguments": {}}</tool_call>',
    '<tool_call>{"arguments": {"x": 1',
    "<tool_call>" + '{"a":' * 3000 + "1" + "}" * 3000 + "</tool_call>",
    "<tool_call>",
    "<tool_call>\n  ",
]


@pytest.mark.parametrize("text", MALFORMED)
@pytest.mark.parametrize("streams", [False, True])
def test_malformed_calls_stay_content(text, streams):
    assert shown(parse(HERMES, text, streams=streams)) == (text, [], False)


@pytest.mark.parametrize("arguments", ['{"x": NaN}', "{x: 1}", '{"x": 1,}', '{"x": [}}'])
def test_arguments_that_are_not_json(arguments):
    """A stream has sent them already: the call is not complete then, and its end is content."""
    text = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    assert shown(parse(HERMES, text)) == (text, [], False)
    content, calls, has_calls = shown(parse(HERMES, text, streams=True))
    assert content == "}</tool_call>"
    assert calls == [("f", arguments)]
    assert not has_calls


def test_a_valid_call_after_a_malformed_one():
    text = '<tool_call>oops <tool_call>{"name": "f", "arguments": {}}</tool_call>'
    for streams in (False, True):
        assert shown(parse(HERMES, text, streams=streams)) == ("<tool_call>oops", [("f", "{}")], True)


def test_an_answer_that_ends_inside_arguments():
    text = '<tool_call>{"name": "f", "arguments": {"x": "abc'
    assert shown(parse(HERMES, text)) == (text, [], False)
    assert shown(parse(HERMES, text, streams=True)) == ("", [("f", '{"x": "abc')], False)


def test_a_stream_sends_arguments_before_they_are_complete():
    parser = CallParser(MISTRAL, NAMES, streams=True, is_parallel=True)
    begin, first = parser.feed('[TOOL_CALLS] [{"name": "f", "arguments": {"x": "ab')
    assert isinstance(begin, CallBegin)
    assert first == CallArguments(0, '{"x": "ab')
    assert parser.feed("cd") == [CallArguments(0, "cd")]


@pytest.mark.parametrize("streams", [False, True])
def test_one_call_without_parallel_calls(streams):
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    found = parse(HERMES, f"{call}\n{call} and more", streams=streams, is_parallel=False)
    assert shown(found) == ("", [("f", "{}")], True)


def test_ids():
    two = parse(MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {}}, {"name": "f", "arguments": {}}]').calls
    assert all(len(call.id) == 9 and call.id.isalnum() for call in two)
    assert two[0].id != two[1].id
    assert parse(HERMES, '<tool_call>{"name": "f", "arguments": {}}').calls[0].id.startswith("call_")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("{{ tools }}[TOOL_CALLS]", "mistral"),
        ('<|start_header_id|>{{ tools }}{"name": f, "parameters": p}', "llama3"),
        ("{{ tools }}<tool_call><function=f>", None),
        ("{{ tools }}[TOOL_CALLS]f[ARGS]", None),
        ("{{ tools }}", None),
        ("<tool_call>", None),
        (None, None),
    ],
)
def test_the_format_of_a_template(template, name):
    found = choose_format("auto", template)
    assert (found.name if found else None) == name
    assert choose_format("none", template) is None


def test_a_chosen_format():
    assert choose_format("llama3", "{{ tools }}<tool_call>") is LLAMA3
    assert choose_format("hermes", "no such variable") is None
