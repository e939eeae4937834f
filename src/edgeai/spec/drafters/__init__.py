"""Drafters: cheap guesses at what the target will say next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from edgeai.spec.checkpoint import load_head
from edgeai.spec.drafters.eagle3 import Eagle3
from edgeai.spec.drafters.ngram import Ngram
from edgeai.spec.schema import Draft, NgramDraft, NoDraft, TreeConfig
from edgeai.spec.target import Target
from edgeai.spec.tree import DraftTree


class Drafter(Protocol):
    """Proposes continuations of a text that grows by tokens the target has confirmed.

    Shapes: T prompt tokens, A accepted tokens, F target features.
    """

    name: str
    """Tells drafters with different proposals apart, across processes."""

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """Forget everything and begin with a prompt and its target features [T, F]."""

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """Draft what may follow `root`, the target's newest token, which itself is not yet part of the text.

        The caller keeps the root's position plus `tree.depth` within the target's positions.
        """

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """Append confirmed tokens, the root of the last proposal first, with their target features [A, F]."""


def build_drafter(config: Draft, target: Target) -> Drafter | None:
    """The drafter a config asks for; None decodes plainly.

    Raises:
        UsageError: No such head.
        EdgeAIError: The head was trained for another target.
    """
    if isinstance(config, NoDraft):
        return None
    if isinstance(config, NgramDraft):
        return Ngram(max_ngram=config.max_ngram, min_ngram=config.min_ngram)
    raise NotImplementedError
