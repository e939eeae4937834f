"""Protocol of the engine's drafter: proposes the trees of many sequences at once.

Each sequence of the target's KV cache has its own row here, with the same number.

Shapes: n tokens, F target features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree


class DraftPool(Protocol):
    """Drafts for the sequences of a KV cache.

    A pool proposes the same trees as the corresponding drafter in `edgeai.spec.draft`.
    """

    reads_features: bool
    """True if `feed` needs the target's features."""
    num_rows: int
    """Number of sequences."""

    def known(self, row: int) -> int:
        """Return how many tokens at the start of the row's text need no feeding.

        This holds if the next text begins with these tokens and one more.
        """

    def begin(self, row: int, known: int) -> None:
        """Begin a new text in a row.

        Args:
            row: Row of the sequence.
            known: Tokens that the new text shares with the beginning of the previous one.
        """

    def copy(self, source: int, row: int, known: int) -> None:
        """Begin a new text in a row that shares its beginning with another row.

        Args:
            source: Row of the other sequence.
            row: Row of the new sequence.
            known: Tokens that both share.
        """

    def feed(self, row: int, text: Sequence[int], features: Tensor) -> None:
        """Add tokens that the target has read.

        Args:
            row: Row of the sequence.
            text: All confirmed tokens of the sequence, the newest included.
            features: The target's features of the tokens read since the last call [n, F].
        """

    def propose(self, rows: Sequence[int], texts: Sequence[Sequence[int]], tree: TreeConfig) -> list[DraftTree]:
        """Draft continuations of the texts, one tree per row.

        Args:
            rows: Rows of the sequences.
            texts: All confirmed tokens of each sequence; the target has not read the last one.
            tree: Size of the trees.
        """
