"""Constraints that begin after the reasoning, with a grammar of one text of tokens."""

from __future__ import annotations

import pytest

from edgeai.spec.constraints.after_reasoning import AfterReasoning
from edgeai.spec.constraints.constraint import ConstraintError

from .test_constrained_tree import Texts

BEGIN, END, EOS = 50, 51, 52


class TwoTexts:
    """Grammar of the texts 1 2 EOS and 3 2 EOS."""

    def start(self):
        return Texts([1, 2, EOS], [3, 2, EOS])


@pytest.fixture
def start():
    return lambda is_open: AfterReasoning(TwoTexts(), BEGIN, END, {EOS}, is_open).start()


def allowed(constraint):
    found = {token for token in range(100) if constraint.allows(token)}
    assert found == set(constraint.mask().nonzero()[0].tolist())
    return found


def test_reasoning_opened_by_the_prompt(start):
    constraint = start(True)
    for token in (7, 3, 1):
        assert allowed(constraint) == set(range(100)) - {EOS}
        assert constraint.forced() == []
        constraint.advance(token)
    constraint.advance(END)
    assert allowed(constraint) == {1, 3}
    constraint.advance(3)
    assert constraint.forced() == [2, EOS]


def test_reasoning_is_optional(start):
    constraint = start(False)
    assert allowed(constraint) == {BEGIN, 1, 3}
    constraint.advance(1)
    assert allowed(constraint) == {2}
    constraint = start(False)
    constraint.advance(BEGIN)
    assert allowed(constraint) == set(range(100)) - {EOS}
    constraint.advance(END)
    assert allowed(constraint) == {1, 3}


@pytest.mark.parametrize(
    ("is_open", "text"), [(True, [7, END, 1, 2, EOS]), (False, [BEGIN, 7, END, 3, 2, EOS]), (False, [3, 2])]
)
def test_rollback_restores_the_state(start, is_open, text):
    for count in range(1, len(text) + 1):
        constraint = start(is_open)
        before = []
        for token in text:
            before.append(allowed(constraint))
            constraint.advance(token)
        constraint.rollback(count)
        assert allowed(constraint) == before[-count]
        for token, expected in zip(text[-count:], before[-count:], strict=True):
            assert allowed(constraint) == expected
            constraint.advance(token)


def test_the_end_of_the_text_is_forbidden_in_the_reasoning(start):
    with pytest.raises(ConstraintError, match="not allowed"):
        start(True).advance(EOS)
