"""Prompt lookup: what followed the last tokens earlier in the text is proposed again. Needs no training.

Source: Saxena 2023, "Prompt Lookup Decoding". Differs from it: several continuations share one tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree, rerank


class Ngram:
    """Drafter that looks the last tokens up in the prompt and in what has been generated.

    Args:
        max_ngram: Longest suffix looked up.
        min_ngram: Shortest suffix looked up.
    """

    def __init__(self, *, max_ngram: int, min_ngram: int) -> None:
        self._lengths = range(max_ngram, min(min_ngram, max_ngram) - 1, -1)
        self.name = f"ngram-{max_ngram}-{min_ngram}"
        self.aux_layers: tuple[int, ...] = ()
        self.vocabulary: Tensor | None = None
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
        """See `Drafter`: up to `top_k` continuations, of which the most confident nodes are kept."""
        candidates = _Candidates()
        for count, (begin, length) in enumerate(self._continuations(root, tree.top_k)):
            path = [*self._text[begin : begin + tree.depth], root][: tree.depth]
            candidates.add(path, first=0.5**count, each=length / (length + 1))
        tokens, parents = np.array(candidates.tokens, dtype=np.int64), np.array(candidates.parents, dtype=np.int64)
        return rerank(root, tokens, parents, np.array(candidates.scores, dtype=np.float32), tree.nodes)

    def _continuations(self, root: int, count: int) -> list[tuple[int, int]]:
        """Where earlier copies of the text's end go on, and how long the match is: longest first, then most recent."""
        found: dict[int, int] = {}
        for length in self._lengths:
            if length - 1 > len(self._text):
                continue
            suffix = (*self._text[len(self._text) - length + 1 :], root)
            for begin in reversed(self._ends.get(suffix, ())):
                found.setdefault(begin, length)
                if len(found) == count:
                    return list(found.items())
        return list(found.items())


class _Candidates:
    """Paths from the root; equal prefixes share nodes."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.scores: list[float] = []
        self._children: dict[tuple[int, int], int] = {}

    def add(self, path: Sequence[int], *, first: float, each: float) -> None:
        """Add a path whose tokens are believed with probability `each`, the first of them times `first`."""
        node, score = -1, math.log(first)
        for token in path:
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.scores.append(score + math.log(each))
            node, score = child, self.scores[child]
