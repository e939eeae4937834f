"""Parsers of the answers to a chat request."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.spec.serve.answers.answer_parser import AnswerParser
from edgeai.spec.serve.answers.calls import CallParser
from edgeai.spec.serve.answers.reasoning import ReasoningSplitter
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.serve.http.request_schema import ChatRequest


def answer_parsers(served: ServedModel, body: ChatRequest, jobs: Sequence[GenerationJob]) -> list[AnswerParser]:
    """Return one parser for each answer; none if all of the text is content.

    Args:
        served: The served model.
        body: The request.
        jobs: Its jobs, all with the same prompt.
    """
    style, functions = served.tool_format, body.functions
    if not (served.splits_reasoning or functions):
        return []
    names = frozenset(function.name for function in body.callable_functions)
    is_open = served.opens_reasoning(jobs[0].prompt_ids)
    return [
        AnswerParser(
            CallParser(style, names, streams=bool(body.stream), is_parallel=body.allows_several_calls)
            if style and functions
            else None,
            ReasoningSplitter(is_open=is_open) if served.splits_reasoning else None,
            served.marker_names,
        )
        for _ in jobs
    ]
