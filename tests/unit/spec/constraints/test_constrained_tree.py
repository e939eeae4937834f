"""Draft trees under a constraint: pruning with subtrees, chains of forced tokens, limits, and an unchanged state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeai.spec.constraints.constrained_tree import constrain
from edgeai.spec.draft.tree import build_tree, root_only


class Texts:
    """Constraint that allows a set of token sequences; a forced token is the only one allowed."""

    def __init__(self, *texts: Sequence[int]) -> None:
        self.texts, self.read = texts, []

    def _next(self) -> set[int]:
        at = len(self.read)
        return {text[at] for text in self.texts if list(text[:at]) == self.read and len(text) > at}

    def mask(self):
        found = np.zeros(100, dtype=np.bool_)
        found[list(self._next())] = True
        return found

    def allows(self, token: int) -> bool:
        return token in self._next()

    def advance(self, token: int) -> None:
        assert self.allows(token)
        self.read.append(token)

    def rollback(self, count: int) -> None:
        del self.read[len(self.read) - count :]

    def forced(self) -> list[int]:
        found: list[int] = []
        before = list(self.read)
        while len(following := self._next()) == 1:
            found += following
            self.read += following
        self.read = before
        return found


def paths(tree):
    """Return the tokens from the root to every node, without the root."""
    return {tuple(tree.tokens[tree.ancestors[node]].tolist()[1:]) for node in range(1, tree.size)}


def test_every_node_is_judged_after_its_own_path():
    # 7 may follow 1 but not 2; what is below a pruned node goes with it
    tree = build_tree([9, 1, 2, 7, 7, 5, 8], [-1, 0, 0, 1, 2, 4, 0], [0, -1, -1.1, -2, -2.1, -3, -4])
    constraint = Texts([1, 7], [1, 6], [2, 5], [2, 4])
    assert paths(constrain(tree, constraint, nodes=10, depth=3)) == {(1,), (2,), (1, 7)}
    assert constraint.read == []


def test_forced_tokens_are_added_where_nothing_was_drafted():
    constraint = Texts([1, 2, 3, 4], [1, 2, 3, 5])
    tree = constrain(root_only(9), constraint, nodes=0, depth=10)
    assert paths(tree) == {(1,), (1, 2), (1, 2, 3)}
    assert tree.tokens[0] == 9
    assert tree.scores.tolist() == [0.0] * 4


def test_forced_tokens_follow_drafted_ones_and_lead_to_drafted_ones():
    tree = build_tree([9, 1, 2, 4], [-1, 0, 1, 2], [0, -1, -3, -4])
    found = constrain(tree, Texts([1, 2, 4, 6, 7], [1, 2, 5], [0]), nodes=10, depth=10)
    assert paths(found) == {(1,), (1, 2), (1, 2, 4), (1, 2, 4, 6), (1, 2, 4, 6, 7)}
    # the forced 2 is as certain as 1; the drafted 4 keeps its score relative to its parent
    assert found.scores.tolist() == pytest.approx([0, -1, -1, -2, -2, -2])


def test_the_best_nodes_are_kept():
    tree = build_tree([9, 1, 2], [-1, 0, 0], [0, -2, -1])
    found = constrain(tree, Texts([1, 3, 4, 5], [2, 6, 7, 8]), nodes=3, depth=10)
    assert paths(found) == {(2,), (2, 6), (2, 6, 7)}


@pytest.mark.parametrize(("depth", "expected"), [(0, 1), (2, 3), (1000, 65)])
def test_depth_is_limited(depth, expected):
    chain = [number % 7 for number in range(2000)]
    assert constrain(root_only(9), Texts(chain), nodes=1, depth=depth).size == expected


def test_nothing_allowed_leaves_the_root():
    tree = build_tree([9, 1], [-1, 0], [0, -1])
    assert constrain(tree, Texts([2, 3], [4]), nodes=3, depth=3).tokens.tolist() == [9]
