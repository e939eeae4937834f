"""`Target` on the native runtime.

A row of a pass depends on nothing but its own position, so plain and speculative decoding, alone or in a batch, give
the same tokens to the bit.

Shapes: N new tokens of one sequence, B sequences, T tokens, V vocabulary, H hidden, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import rotary_table
from edgeai.spec.target.native.engine import Engine, NewTokens, PackedCache, PassResult
from edgeai.spec.target.native.gguf_file import PackedModel
from edgeai.spec.target.native.library import Library
from edgeai.spec.target.protocol import Forward, Tokenizer, TreeScores

PROMPT_CHUNK = 64
_PACK_NODES = 64


class NativeTarget:
    """`Target` with packed weights.

    Args:
        model: Packed weights.
        library: The compiled library.
        tokenizer: Tokenizer of the model.
        name: Name as the user gave it.
        dtype: Number format of features and of the draft head.
        aux_layers: Layers whose input states are the features.
        threads: Threads of a pass.
    """

    def __init__(
        self,
        *,
        model: PackedModel,
        library: Library,
        tokenizer: Tokenizer,
        name: str,
        dtype: torch.dtype,
        aux_layers: tuple[int, ...],
        threads: int,
    ) -> None:
        self._model, self._library, self._aux_layers = model, library, aux_layers
        self._engine = Engine(library, threads)
        self.tokenizer, self.name, self.dtype = tokenizer, name, dtype
        self.fingerprint, self.shape = model.fingerprint, model.shape
        self.device = torch.device("cpu")
        self.rotary = rotary_table(model.inv_freq, 1.0, model.shape.max_positions, dtype)

    @cached_property
    def embedding(self) -> Tensor:
        """See `Target`."""
        return self._model.embedding().to(self.dtype)

    @cached_property
    def lm_head(self) -> Tensor:
        """See `Target`."""
        return self._model.lm_head().to(self.dtype)

    @property
    def aux_layers(self) -> tuple[int, ...]:
        """See `Target`."""
        return self._aux_layers

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> NativeTarget:
        """See `Target`."""
        other = copy.copy(self)
        other._aux_layers = aux_layers
        return other

    def new_cache(self, capacity: int, batch: int = 1) -> PackedCache:
        """See `Target`."""
        return PackedCache(self._model.structure, self._library.handle, capacity, batch)

    def prefill(self, ids: Sequence[int], cache: PackedCache, row: int = 0) -> Forward:
        """See `Target`. The size of the chunks changes no bit of the result."""
        assert ids, "an empty prompt has no next token"
        results = [
            self._run([part], cache) for part in _chunks(np.asarray(ids, dtype=np.int64), cache, row, last_logits=True)
        ]
        features = torch.cat([self._features(result) for result in results])
        return Forward(torch.from_numpy(results[-1].logits), features)

    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: PackedCache, row: int = 0) -> Forward:
        """See `Target`."""
        start = cache.lengths[row]
        new = _tree(tokens, depths, ancestors, row=row, visible=start, start=start)
        result = self._run([new], cache)
        return Forward(torch.from_numpy(result.logits), self._features(result))

    def commit(self, cache: PackedCache, path: Tensor, row: int = 0) -> None:
        """See `Target`."""
        cache.keep(row, path.tolist())

    def decode(self, tokens: Tensor, cache: PackedCache, active: Sequence[bool]) -> Tensor:
        """See `Target`."""
        one = np.ones((1, 1), np.uint8)
        new = [
            NewTokens(row, length, length, token.reshape(1), np.zeros(1, np.int64), one, (0,))
            for row, (length, token) in enumerate(zip(cache.lengths, tokens.numpy(), strict=True))
        ]
        result = self._run(new, cache, ())
        for row, is_active in enumerate(active):
            cache.lengths[row] += int(is_active)
        return torch.from_numpy(result.logits)

    def features(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Target`."""
        batch, length = ids.shape
        cache = self.new_cache(length, batch)
        features, hidden = [], []
        for row in range(batch):
            for part in _chunks(ids[row].numpy(), cache, row, last_logits=False):
                result = self._run([part], cache)
                features.append(self._features(result))
                hidden.append(torch.from_numpy(result.hidden).to(self.dtype))
        return torch.cat(features).view(batch, length, -1), torch.cat(hidden).view(batch, length, -1)

    def score_trees(
        self, trees: Sequence[DraftTree], prefixes: Sequence[int], cache: PackedCache, *, temperature: float = 1.0
    ) -> list[TreeScores]:
        """See `Target`."""
        scores = []
        for tree, prefix in zip(trees, prefixes, strict=True):
            new = _tree(tree.tokens, tree.depths, tree.ancestors, row=0, visible=prefix, start=cache.lengths[0])
            logits = torch.from_numpy(self._run([new], cache, ()).logits) / temperature
            log_probs = torch.zeros(tree.size)
            parents = tree.parents[1:]
            log_probs[1:] = logits[parents, tree.tokens[1:]] - logits.logsumexp(-1)[parents]
            scores.append(TreeScores(log_probs, logits.argmax(-1)))
        return scores

    def _features(self, result: PassResult) -> Tensor:
        return torch.from_numpy(result.features).to(self.dtype)

    def _run(
        self, new: Sequence[NewTokens], cache: PackedCache, aux_layers: tuple[int, ...] | None = None
    ) -> PassResult:
        layers = self._aux_layers if aux_layers is None else aux_layers
        embedded = self._model.embed(np.concatenate([part.tokens for part in new]))
        return self._engine.run(self._model.structure, embedded, new, cache, layers)


def _tree(tokens: Tensor, depths: Tensor, ancestors: Tensor, *, row: int, visible: int, start: int) -> NewTokens:
    """A tree whose every node is scored."""
    return NewTokens(row, visible, start, tokens.numpy(), depths.numpy(), ancestors.numpy(), range(len(tokens)))


def _chunks(ids: np.ndarray, cache: PackedCache, row: int, *, last_logits: bool) -> list[NewTokens]:
    """Cut a text into parts that follow each other; they are committed, one after the other is run."""
    start, parts = cache.lengths[row], []
    for begin in range(0, len(ids), PROMPT_CHUNK):
        tokens = ids[begin : begin + PROMPT_CHUNK]
        is_last = last_logits and begin + PROMPT_CHUNK >= len(ids)
        size = len(tokens)
        parts.append(
            NewTokens(
                row,
                start + begin,
                start + begin,
                tokens,
                np.arange(size),
                np.tri(size, dtype=np.uint8),
                (size - 1,) if is_last else (),
            )
        )
    cache.lengths[row] = start + len(ids)
    return parts
