"""Reasoning split off an answer, however its text is divided."""

from __future__ import annotations

import pytest

from edgeai.spec.serve.answers.deltas import Reasoning
from edgeai.spec.serve.answers.reasoning import ReasoningSplitter, opens_reasoning


def split(text, *, is_open, cuts=()):
    splitter, parts = ReasoningSplitter(is_open=is_open), []
    for begin, end in zip((0, *cuts), (*cuts, len(text)), strict=True):
        parts += splitter.feed(text[begin:end])
    parts += splitter.finish()
    reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
    return reasoning, "".join(part.text for part in parts if not isinstance(part, Reasoning))


@pytest.mark.parametrize(
    ("text", "is_open", "reasoning", "content"),
    [
        ("<think>\nOne, two.\n\nThree\n</think>\n\nYes. ", False, "One, two.\n\nThree", "Yes. "),
        ("\nOne </thin two\n</think>Yes", True, "One </thin two", "Yes"),
        ("<think>\n\n</think>\n\nYes", False, "", "Yes"),
        ("  Yes <think>no</think>", False, "", "  Yes <think>no</think>"),
        ("<thin", False, "", "<thin"),
        ("<think>never ends </th", False, "never ends </th", ""),
        ("One</think>Yes</think>", True, "One", "Yes</think>"),
        ("One</think>\n", True, "One", ""),
        ("", True, "", ""),
    ],
)
def test_reasoning(text, is_open, reasoning, content):
    assert split(text, is_open=is_open) == (reasoning, content)
    assert split(text, is_open=is_open, cuts=range(1, len(text))) == (reasoning, content)
    for cut in range(1, len(text)):
        assert split(text, is_open=is_open, cuts=(cut,)) == (reasoning, content)


def test_prompts_that_open_the_reasoning():
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_reasoning("<|im_start|>assistant\n")
