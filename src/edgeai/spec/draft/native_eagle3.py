"""The EAGLE-3 drafter on the native runtime: the trees of `eagle3.py`, in one call per cycle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.native_head import NativeHead, NewPairs
from edgeai.spec.draft.tree import DraftTree


class NativeEagle3:
    """Drafter with a packed head.

    Args:
        head: Packed head.
        name: Identifier of the head's weights in caches of measurements.
    """

    def __init__(self, head: NativeHead, *, name: str) -> None:
        self.name, self.head = name, head
        self.aux_layers = head.shape.aux_layers
        self.vocabulary: Tensor | None = head.target_ids
        self._cache = head.new_cache(512)
        # accepted, but not yet processed by the head: features of the last tokens, and the tokens that follow them
        self._features: list[Tensor] = []
        self._tokens: list[int] = []

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        self._cache.lengths[0] = 0
        self._cache.reserve(len(ids))
        self.head.add(self._cache, NewPairs(0, ids[1:], features[:-1]))
        self._tokens, self._features = [], [features[-1:]]

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        # propose has already paired tokens[0]
        self._tokens += tokens if self._features else tokens[1:]
        self._features.append(features)

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """See `Drafter`."""
        tokens = [*self._tokens, root]
        self._cache.reserve(self._cache.lengths[0] + len(tokens) + tree.depth * tree.top_k)
        pairs = NewPairs(0, tokens, torch.cat(self._features))
        self._tokens, self._features = [], []
        return self.head.propose(self._cache, [pairs], tree)[0]
