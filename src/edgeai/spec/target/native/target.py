"""`Target` on the native runtime.

A row of a pass depends on nothing but its own position, so plain and speculative decoding, alone or in a batch, give
the same tokens to the bit.

Shapes: N new tokens of one sequence, B sequences, T tokens, V vocabulary, H hidden, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from edgeai.core.device import torch_threads
from edgeai.spec.config.target import Runtime
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.attention import rotary_table
from edgeai.spec.target.native.cache import PackedCache
from edgeai.spec.target.native.engine import Engine, NewTokens, PassResult
from edgeai.spec.target.native.library import Library
from edgeai.spec.target.native.packed_model import PackedModel
from edgeai.spec.target.protocol import Forward, Segment, SegmentResult, Tokenizer, TreeScores
from edgeai.spec.target.tree_scoring import packs

PROMPT_CHUNK = 64
PACK_NODES = 64


class _Tables:
    """Tensors of a model for torch, each made when it is first asked for; all copies of a target share them."""

    def __init__(self, model: PackedModel, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype

    @cached_property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine [positions, hd]."""
        rotary = self._model.rotary
        inv_freq = torch.from_numpy(rotary.inv_freq)
        return rotary_table(inv_freq, rotary.attention_factor, self._model.shape.max_positions, self._dtype)

    @cached_property
    def embedding(self) -> Tensor:
        """Embedding [V, H]."""
        return self._model.embedding(self._dtype)

    @cached_property
    def lm_head(self) -> Tensor:
        """Output matrix [V, H]."""
        return self.embedding if self._model.is_tied else self._model.lm_head(self._dtype)


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

    runtime: Runtime = "native"
    is_exact = True

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
        self.fingerprint, self.former_fingerprint = model.fingerprint.current, model.fingerprint.former
        self.shape = model.shape
        self.device = torch.device("cpu")
        self._tables = _Tables(model, dtype)

    @property
    def engine(self) -> Engine:
        """Threads and buffers, which the draft head shares."""
        return self._engine

    @property
    def packed(self) -> PackedModel:
        """Packed weights."""
        return self._model

    @property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """See `Target`."""
        return self._tables.rotary

    @property
    def embedding(self) -> Tensor:
        """See `Target`."""
        return self._tables.embedding

    @property
    def lm_head(self) -> Tensor:
        """See `Target`."""
        return self._tables.lm_head

    @property
    def aux_layers(self) -> tuple[int, ...]:
        """See `Target`."""
        return self._aux_layers

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> NativeTarget:
        """See `Target`."""
        other = copy.copy(self)
        other._aux_layers = aux_layers
        return other

    def decoding(self) -> AbstractContextManager[None]:
        """See `Target`.

        After an operation on several threads, such as the choice of a token, torch's threads spin for milliseconds on
        the cores that the next pass needs.
        """
        return torch_threads(1)

    def embed(self, ids: Tensor) -> Tensor:
        """See `Target`."""
        return torch.from_numpy(self._model.embed(ids.numpy().reshape(-1))).view(*ids.shape, -1).to(self.dtype)

    def new_cache(self, capacity: int, batch: int = 1) -> PackedCache:
        """See `Target`."""
        self._model.reserve_positions(capacity)
        return PackedCache(self._num_kv_heads, self.shape.head_dim, capacity, batch)

    def cache_bytes(self, capacity: int) -> int:
        """See `Target`."""
        return PackedCache.bytes_per_sequence(self._num_kv_heads, self.shape.head_dim, capacity)

    @property
    def _num_kv_heads(self) -> int:
        """Key heads of all layers."""
        return self.shape.num_layers * self.shape.num_kv_heads

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
        new = _new_tokens(Segment(row, tokens, depths, ancestors, slice(None)), start, start)
        result = self._run([new], cache)
        return Forward(torch.from_numpy(result.logits), self._features(result))

    def commit(self, cache: PackedCache, path: Tensor, row: int = 0) -> None:
        """See `Target`."""
        self.commit_paths(cache, [(row, path.tolist())])

    def run_segments(self, segments: Sequence[Segment], cache: PackedCache) -> list[SegmentResult]:
        """See `Target`."""
        new = [_new_tokens(segment, cache.lengths[segment.row], cache.lengths[segment.row]) for segment in segments]
        result = self._run(new, cache)
        logits = torch.from_numpy(result.logits).split([len(part.logits) for part in new])
        features = self._features(result).split([len(part.tokens) for part in new])
        return [SegmentResult(*parts) for parts in zip(logits, features, strict=True)]

    def commit_paths(self, cache: PackedCache, paths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """See `Target`."""
        for row, path in paths:
            self._engine.keep(self._model.structure, cache, row, path)

    def decode(self, tokens: Tensor, cache: PackedCache, active: Sequence[bool]) -> Tensor:
        """See `Target`. Runs the active sequences only; the logits of the others are undefined."""
        one, zero = np.ones((1, 1), np.uint8), np.zeros(1, np.int64)
        rows = [row for row, is_active in enumerate(active) if is_active]
        new = [
            NewTokens(row, cache.lengths[row], cache.lengths[row], tokens[row : row + 1].numpy(), zero, one, (0,))
            for row in rows
        ]
        found = torch.from_numpy(self._run(new, cache, ()).logits)
        for row in rows:
            cache.lengths[row] += 1
        if len(rows) == len(active):
            return found
        logits = found.new_empty(len(active), found.shape[1])
        logits[rows] = found
        return logits

    def features(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Target`."""
        features, hidden, _ = self._read(ids, logits=())
        return features, hidden

    def features_and_choices(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Target`."""
        features, hidden, choices = self._read(ids, logits=range(PROMPT_CHUNK))
        return features, hidden, choices.view(ids.shape)

    def _read(self, ids: Tensor, *, logits: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return features and final states [B, T, ...], and the greedy choice after these tokens of each chunk."""
        cache = self.new_cache(ids.shape[1])
        features, hidden, choices = [], [], []
        with self.decoding():
            for text in ids.numpy():
                cache.lengths[0] = 0
                for part in _chunks(text, cache, 0, last_logits=False):
                    result = self._run([replace(part, logits=logits[: len(part.tokens)])], cache)
                    features.append(self._features(result))
                    hidden.append(torch.from_numpy(result.hidden).to(self.dtype))
                    choices.append(torch.from_numpy(result.logits).argmax(-1))
        return (
            torch.cat(features).view(*ids.shape, -1),
            torch.cat(hidden).view(*ids.shape, -1),
            torch.cat(choices),
        )

    def score_trees(
        self, trees: Sequence[DraftTree], prefixes: Sequence[int], cache: PackedCache, *, temperature: float = 1.0
    ) -> list[TreeScores]:
        """See `Target`."""
        scores: list[TreeScores] = []
        for part in packs(trees, PACK_NODES):
            new, start = [], cache.lengths[0]
            for tree, prefix in zip(trees[part], prefixes[part], strict=True):
                new.append(_new_tokens(Segment.of_tree(0, tree), prefix, start))
                start += tree.size
            logits = torch.from_numpy(self._run(new, cache, ()).logits) / temperature
            sizes = [tree.size for tree in trees[part]]
            scores += map(_tree_scores, trees[part], logits.split(sizes))
        return scores

    def _features(self, result: PassResult) -> Tensor:
        return torch.from_numpy(result.features).to(self.dtype)

    def _run(
        self, new: Sequence[NewTokens], cache: PackedCache, aux_layers: tuple[int, ...] | None = None
    ) -> PassResult:
        layers = self._aux_layers if aux_layers is None else aux_layers
        embedded = self._model.embed(np.concatenate([part.tokens for part in new]))
        return self._engine.run(self._model.structure, embedded, new, cache, layers)


def _new_tokens(segment: Segment, visible: int, start: int) -> NewTokens:
    """Place a segment at the slots from `start`, after the first `visible` tokens of its sequence."""
    size = len(segment.tokens)
    return NewTokens(
        segment.row,
        visible,
        start,
        segment.tokens.numpy(),
        segment.depths.numpy(),
        segment.ancestors.numpy(),
        range(size)[segment.logits],
    )


def _tree_scores(tree: DraftTree, logits: Tensor) -> TreeScores:
    log_probs = torch.zeros(tree.size)
    parents = tree.parents[1:]
    log_probs[1:] = logits[parents, tree.tokens[1:]] - logits.logsumexp(-1)[parents]
    return TreeScores(log_probs, logits.argmax(-1))


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
