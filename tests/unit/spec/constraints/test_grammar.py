"""Grammars compiled for the tiny model's byte tokenizer, against Python's regular expressions and JSON."""

from __future__ import annotations

import json
import re
import sys

import pytest

from edgeai.spec.constraints.constraint import ConstraintError
from edgeai.spec.constraints.grammar import MAX_CHARS, GrammarCompiler, GrammarSource, MissingLibrary


@pytest.fixture
def needs_library():
    pytest.importorskip("llguidance")


@pytest.fixture(scope="module")
def compiler(tiny_target):
    return GrammarCompiler(tiny_target.tokenizer, tiny_target.shape.vocab_size)


@pytest.fixture
def start(compiler, needs_library):
    return lambda kind, text: compiler.compile(GrammarSource(kind, text)).start()


@pytest.fixture
def accepts(start, tiny_target):
    """accepts(kind, source, text): whether the whole text follows the grammar and may end there."""
    tokenizer = tiny_target.tokenizer
    (eos,) = tokenizer.eos_ids

    def check(kind, source, text):
        constraint = start(kind, source)
        for token in tokenizer.encode(text):
            assert bool(constraint.mask()[token]) == constraint.allows(token)
            if not constraint.allows(token):
                return False
            constraint.advance(token)
        assert bool(constraint.mask()[eos]) == constraint.allows(eos)
        return constraint.allows(eos)

    return check


@pytest.mark.parametrize("text", ["", "a", "ab", "abab", "aba", "abc", "c", "ababc"])
def test_regular_expressions_match_the_whole_text(accepts, text):
    assert accepts("regex", "(ab)*c?", text) == bool(re.fullmatch("(ab)*c?", text))


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "{}", '{"a":1}', '{"a":  1}', "[1]", '{"a": [1, {"b": null}]}', '{"a": 1']
)
def test_json_is_written_as_python_writes_it(accepts, text):
    try:
        value = json.loads(text)
        expected = isinstance(value, dict) and text == json.dumps(value)
    except ValueError:
        expected = False
    assert accepts("json_schema", GrammarSource.json_object().text, text) == expected


def test_choices_are_whole_texts(accepts):
    texts = ["yes", "yes, really", "🙂\u200d👩", 'a "quote"\\\n', "ü"]
    for text in texts:
        assert accepts("choice", json.dumps(texts), text)
    for text in ("", "ye", "yesyes", "🙂"):
        assert not accepts("choice", json.dumps(texts), text)


@pytest.mark.parametrize("grammar", ['root ::= "a" root "b" | "c"', 'start: "a" start "b" | "c"'], ids=["gbnf", "lark"])
def test_grammars(accepts, grammar):
    assert accepts("grammar", grammar, "aacbb")
    assert not accepts("grammar", grammar, "aacb")


@pytest.mark.parametrize(("schema", "text", "expected"), [("true", "[1]", True), ("{}", '"x"', True)])
def test_schemas_without_a_type(accepts, schema, text, expected):
    assert accepts("json_schema", schema, text) == expected


def test_forced_tokens_and_the_end(start, tiny_target):
    tokenizer = tiny_target.tokenizer
    constraint = start("choice", '["begin one", "begin two"]')
    assert tokenizer.decode(constraint.forced()) == "begin "
    for token in tokenizer.encode("begin tw"):
        constraint.advance(token)
    constraint.advance(constraint.forced()[0])
    assert constraint.forced() == list(tokenizer.eos_ids)
    assert set(constraint.mask().nonzero()[0].tolist()) == tokenizer.eos_ids


def test_rollback_restores_the_state(start, tiny_target):
    constraint = start("regex", "ab(c|d)e")
    masks = []
    for token in tiny_target.tokenizer.encode("abce"):
        masks.append(constraint.mask().tolist())
        constraint.advance(token)
    (eos,) = tiny_target.tokenizer.eos_ids
    constraint.advance(eos)
    constraint.rollback(1)
    for mask in reversed(masks):
        constraint.rollback(1)
        assert constraint.mask().tolist() == mask


def test_answers_of_one_grammar_are_independent(compiler, tiny_target, needs_library):
    grammar = compiler.compile(GrammarSource("regex", "ab"))
    first, second = grammar.start(), grammar.start()
    first.advance(tiny_target.tokenizer.encode("a")[0])
    assert second.mask().tolist() == grammar.start().mask().tolist() != first.mask().tolist()


def test_a_forbidden_token_is_an_error(start, tiny_target):
    with pytest.raises(ConstraintError):
        start("regex", "ab").advance(tiny_target.tokenizer.encode("x")[0])


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("json_schema", '{"type": "strng"}', "Invalid type: strng"),
        ("json_schema", '{"type": "array", "uniqueItems": true}', 'Unimplemented keys: ["uniqueItems"]'),
        (
            "json_schema",
            '{"x-guidance": {"lenient": true}, "uniqueItems": true}',
            'Unimplemented keys: ["uniqueItems"]',
        ),
        ("json_schema", '{"$ref": "#/$defs/none"}', "Pointer '/$defs/none' does not exist"),
        ("json_schema", '{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}', "no text follows the grammar"),
        ("json_schema", "false", "Unsatisfiable schema: anyOf is empty"),
        ("json_schema", "[1]", "a JSON schema is an object or a boolean"),
        ("json_schema", "{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (
            "json_schema",
            "[" * 5000,
            "maximum recursion depth exceeded while decoding a JSON array from a unicode string",
        ),
        ("regex", r"[^\s\S]", "no text follows the grammar"),
        ("grammar", "start: nothing", 'at 1(8): unknown name: "nothing" 1 | start: nothing ^'),
        ("regex", "a" * (MAX_CHARS + 1), f"longer than {MAX_CHARS} characters"),
    ],
)
def test_errors_are_one_line(start, kind, text, message):
    with pytest.raises(ConstraintError) as error:
        start(kind, text)
    assert error.value.message == message


def test_missing_library_says_what_to_install(tiny_target, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    compiler = GrammarCompiler(tiny_target.tokenizer, tiny_target.shape.vocab_size)
    with pytest.raises(MissingLibrary) as error:
        compiler.compile(GrammarSource("regex", "a"))
    assert error.value.hint == "pip install 'edgeai[structured]'"


def test_a_tokenizer_without_a_definition_is_refused(target, needs_library):
    with pytest.raises(ConstraintError, match=r"no tokenizer\.json"):
        GrammarCompiler(target.tokenizer, target.shape.vocab_size).compile(GrammarSource("regex", "a"))
