"""Draft pool for drafters that read the text only, such as prompt lookup."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.tree import DraftTree


class TextPool:
    """One text-only drafter per sequence; implements `DraftPool`.

    Args:
        make: Returns a new drafter.
        num_rows: Number of sequences.
    """

    reads_features = False

    def __init__(self, make: Callable[[], Drafter], num_rows: int) -> None:
        self._make, self.num_rows = make, num_rows
        self._drafters = [make() for _ in range(num_rows)]
        self._seen = [0] * num_rows
        self._no_features = torch.empty(0)

    def known(self, row: int) -> int:
        """See `DraftPool`. No limit: a new text is cheap to read from its start."""
        return 1 << 30

    def begin(self, row: int, known: int) -> None:
        """See `DraftPool`."""
        self._drafters[row], self._seen[row] = self._make(), 0

    def copy(self, source: int, row: int, known: int) -> None:
        """See `DraftPool`."""
        self.begin(row, known)

    def feed(self, row: int, text: Sequence[int], features: Tensor) -> None:
        """See `DraftPool`. Does nothing: `propose` receives the whole text."""

    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """See `DraftPool`."""
        trees = []
        for row, text in zip(rows, texts, strict=True):
            drafter = self._drafters[row]
            drafter.accept(text[self._seen[row] : -1], self._no_features)
            self._seen[row] = len(text) - 1
            trees.append(drafter.propose(text[-1], tree))
        return trees
