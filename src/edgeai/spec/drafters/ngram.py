"""Prompt lookup: what followed the last tokens earlier in the text is proposed again. Needs no training.

Source: Saxena 2023, "Prompt Lookup Decoding". Differs from it: several continuations share one tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from edgeai.spec.schema import TreeConfig
from edgeai.spec.tree import DraftTree, build_tree

# Confidence given to a proposed token, per length of the match; only the order within a tree depends on it.
_CONFIDENCE = 0.5


class Ngram:
    """Drafter that looks the last tokens up in the prompt and in what has been generated.

    Args:
        max_ngram: Longest suffix looked up.
        min_ngram: Shortest suffix looked up.
    """

    def __init__(self, *, max_ngram: int, min_ngram: int) -> None:
        self._lengths = range(max_ngram, min(min_ngram, max_ngram) - 1, -1)
        self.name = f"ngram-{max_ngram}-{min_ngram}"
        self._text: list[int] = []
        self._ends: dict[tuple[int, ...], list[int]] = {}  # n-gram -> positions right behind it, ascending

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """See `Drafter`. The features are not looked at."""
        self._text, self._ends = [], {}
        self.accept(ids, features)

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        for token in tokens:
            self._text.append(token)
            end = len(self._text)
            for length in self._lengths:
                if length <= end:
                    self._ends.setdefault(tuple(self._text[end - length : end]), []).append(end)

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """See `Drafter`: up to `top_k` different continuations, the best match first, share the nodes."""
        nodes = _Nodes(root)
        for count, begin in enumerate(self._continuations(root, tree.top_k)):
            path = [*self._text[begin : begin + tree.depth], root][: tree.depth]
            nodes.add(path, weight=0.5**count, room=tree.nodes)
        return build_tree(nodes.tokens, nodes.parents, nodes.scores)

    def _continuations(self, root: int, count: int) -> list[int]:
        """Positions where earlier copies of the text's end go on: longest match first, then the most recent."""
        found: list[int] = []
        for length in self._lengths:
            suffix = (*self._text[len(self._text) - length + 1 :], root) if length > 1 else (root,)
            for begin in reversed(self._ends.get(suffix, ())):
                if begin not in found:
                    found.append(begin)
                if len(found) == count:
                    return found
        return found


class _Nodes:
    """A tree that grows by whole paths; equal prefixes share nodes."""

    def __init__(self, root: int) -> None:
        self.tokens, self.parents, self.scores = [root], [-1], [0.0]
        self._children: dict[tuple[int, int], int] = {}

    def add(self, path: Sequence[int], *, weight: float, room: int) -> None:
        """Add the path from the root while there are fewer than `room` draft nodes."""
        node = 0
        for token in path:
            child = self._children.get((node, token))
            if child is None:
                if len(self.tokens) > room:
                    return
                child = len(self.tokens)
                self._children[node, token] = child
                self.tokens.append(token)
                self.parents.append(node)
                self.scores.append(self.scores[node] + math.log(_CONFIDENCE * weight if node == 0 else _CONFIDENCE))
            node = child
