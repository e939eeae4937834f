"""Prompt lookup: propose the tokens that followed earlier occurrences of the last tokens. Needs no training.

Source: Saxena 2023, "Prompt Lookup Decoding". Differs from the source: several continuations share one tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree, rerank


class Ngram:
    """Drafter that looks up the last tokens in the prompt and the generated text.

    Args:
        max_ngram: Length of the longest suffix to look up.
        min_ngram: Length of the shortest suffix to look up.
    """

    def __init__(self, *, max_ngram: int, min_ngram: int) -> None:
        self._lengths = range(max_ngram, min(min_ngram, max_ngram) - 1, -1)
        self.name = f"ngram-{max_ngram}-{min_ngram}"
        self.aux_layers: tuple[int, ...] = ()
        self.vocabulary: Tensor | None = None
        self._text: list[int] = []
        self._ends: dict[tuple[int, ...], list[int]] = {}  # n-gram -> positions after it, ascending

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """See `Drafter`. The features are ignored."""
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
        """See `Drafter`. Up to `top_k` continuations are looked up and the most confident nodes are kept."""
        candidates = _Candidates()
        for count, (begin, length) in enumerate(self._continuations(root, tree.top_k)):
            path = [*self._text[begin : begin + tree.depth], root][: tree.depth]
            candidates.add(path, first=0.5**count, each=length / (length + 1))
        tokens, parents = np.array(candidates.tokens, dtype=np.int64), np.array(candidates.parents, dtype=np.int64)
        return rerank(root, tokens, parents, np.array(candidates.scores, dtype=np.float32), tree.nodes)

    def _continuations(self, root: int, count: int) -> list[tuple[int, int]]:
        """Return the positions after earlier matches of the last tokens, with the length of the match.

        The longest matches come first, then the most recent.
        """
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
    """Candidate paths from the root; equal prefixes share nodes."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.scores: list[float] = []
        self._children: dict[tuple[int, int], int] = {}

    def add(self, path: Sequence[int], *, first: float, each: float) -> None:
        """Add a path whose tokens have the probability `each`, multiplied by `first` for the first token."""
        node, score = -1, math.log(first)
        for token in path:
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.scores.append(score + math.log(each))
            node, score = child, self.scores[child]
