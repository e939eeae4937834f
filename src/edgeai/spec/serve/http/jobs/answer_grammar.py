"""Grammar of the answer to a request: structured output, forced tool calls, and reasoning before either."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgeai.spec.constraints.after_reasoning import AfterReasoning
from edgeai.spec.constraints.constraint import ConstraintError, Grammar
from edgeai.spec.constraints.grammar import GrammarSource, MissingLibrary, parse_schema
from edgeai.spec.serve.answers.reasoning import REASONING_MARKS
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.jobs.call_grammar import Schema, call_grammar
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.serve.http.messages.tool_schema import Function
from edgeai.spec.serve.http.request_schema import ChatRequest, CompletionRequest


def completion_grammar(served: ServedModel, body: CompletionRequest) -> Grammar | None:
    """Compile the grammar of a text completion; None for free text.

    Raises:
        ApiError: The grammar cannot be compiled.
    """
    return _compile(served, body.grammar_source, body.constraint_param)


def chat_grammar(
    served: ServedModel, body: ChatRequest, prompt_ids: Sequence[int], *, param: str | None
) -> Grammar | None:
    """Compile the grammar of an answer in a chat; None for free text.

    Args:
        served: The served model.
        body: The request.
        prompt_ids: Rendered messages.
        param: Name of the field that constrains the answer, for errors.

    Raises:
        ApiError: The grammar cannot be compiled, or cannot begin after the reasoning.
    """
    source = body.grammar_source
    grammar = _calls(served, body, source, param) if body.functions and param else _compile(served, source, param)
    if grammar and served.splits_reasoning:
        return _after_reasoning(served, grammar, is_open=served.opens_reasoning(prompt_ids), param=param)
    return grammar


def _calls(served: ServedModel, body: ChatRequest, source: GrammarSource | None, param: str) -> Grammar | None:
    """Compile the grammar of forced calls, or of calls and structured output as alternatives."""
    style = served.tool_format
    assert style is not None, "requests with tools have been checked"
    if source is not None and source.kind != "json_schema":
        raise ApiError(
            400,
            f"{param}: only a JSON schema can be combined with tools that the model may call",
            param=param,
            code="unsupported_parameter",
        )

    def token_of(marker: str) -> int | None:
        ids = served.tokenizer.encode(marker)
        return ids[0] if len(ids) == 1 else None

    # a grammar tells calls from JSON by their first character or token
    is_distinct = style.begin and (style.begin[0] not in "[{" or token_of(style.opening) is not None)
    if not (body.forces_call or is_distinct):
        raise ApiError(
            400,
            f"{param}: cannot be combined with tools that the model may call in its format; set tool_choice",
            param=param,
            code="unsupported_parameter",
        )

    if not body.forces_call:
        _compile(served, source, param)  # so that an error in the schema of the answer is not one of the tools
    calls = call_grammar(
        style,
        {function.name: _arguments(function) for function in body.callable_functions},
        is_parallel=body.allows_several_calls,
        token_of=token_of,
        answer=None if body.forces_call or source is None else parse_schema(source.text),
    )
    try:
        return served.grammars.compile(calls)
    except MissingLibrary as error:
        raise _missing_library(param, error) from error
    except ConstraintError as error:
        for function in body.callable_functions:
            alone = GrammarSource("json_schema", json.dumps(_arguments(function), ensure_ascii=False))
            _compile(served, alone, "tools", what=f"the parameters of '{function.name}'")
        message = "tools: the parameters of all functions together are too large for a grammar"
        raise ApiError(400, message, param="tools", code="invalid_value") from error


def _arguments(function: Function) -> Schema:
    """Return the JSON schema of the arguments; always an object."""
    if function.parameters is None:
        return {"type": "object", "additionalProperties": False}
    return {**function.parameters, "type": "object"}


def _compile(served: ServedModel, source: GrammarSource | None, param: str | None, *, what: str = "") -> Grammar | None:
    """Compile a grammar; None without one.

    Args:
        served: The served model.
        source: Source of the grammar.
        param: Name of the field that holds it, for errors.
        what: Part of the field, for errors.

    Raises:
        ApiError: It cannot be compiled.
    """
    if source is None:
        return None
    try:
        return served.grammars.compile(source)
    except MissingLibrary as error:
        raise _missing_library(param, error) from error
    except ConstraintError as error:
        place = f"{param}: {what}: " if what else f"{param}: "
        raise ApiError(400, f"{place}{error.message}", param=param, code="invalid_value") from error


def _missing_library(param: str | None, error: MissingLibrary) -> ApiError:
    return ApiError(400, f"{param}: {error.message}", param=param, code="unsupported_parameter")


def _after_reasoning(served: ServedModel, grammar: Grammar, *, is_open: bool, param: str | None) -> Grammar:
    """Let a grammar begin after the reasoning.

    Raises:
        ApiError: The answer begins inside the reasoning, whose end is not one token.
    """
    marks = [served.tokenizer.encode(mark) for mark in REASONING_MARKS]
    if all(len(ids) == 1 for ids in marks):
        (begin_id,), (end_id,) = marks
        return AfterReasoning(grammar, begin_id, end_id, served.tokenizer.eos_ids, is_open)
    if is_open:
        raise ApiError(
            400,
            f"{param}: not supported after reasoning whose end is not one token of the model",
            param=param,
            code="unsupported_parameter",
        )
    return grammar
