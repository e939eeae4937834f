"""The frozen target model as seen by drafting, verification and training; `torch_runtime.py` implements it.

Shapes: N new tokens of one sequence, B sequences, T tokens, V vocabulary, H hidden, F = 3 H features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.kv_cache import KVCache

Message = Mapping[str, str]


@dataclass(frozen=True)
class Shape:
    """What the weights of a decoder look like, in the field's usual names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_positions: int


class Tokenizer(Protocol):
    """Text to token ids and back, with the model's chat template."""

    eos_ids: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Token ids of text; special tokens written in it are recognised, none are added."""

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Text of token ids, special tokens left out unless they are wanted."""

    def render(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        """Chat template applied; `open_answer` ends with the header of the assistant's turn."""


@dataclass(frozen=True)
class TreeScores:
    """What the target says about a tree, on the CPU."""

    log_probs: Tensor  # [N] of each node's token after the path to its parent; the root 0
    best: Tensor  # [N] the target's own choice after each node


@dataclass(frozen=True)
class Forward:
    """What the target says about N tokens."""

    logits: Tensor  # [N, V] float32, row i predicts the token after token i
    features: Tensor  # [N, F], input of the draft head


class Target(Protocol):
    """What drafting, verification and training need from a runtime. Faster runtimes implement these methods."""

    name: str
    fingerprint: str
    shape: Shape
    tokenizer: Tokenizer
    dtype: torch.dtype
    device: torch.device
    embedding: Tensor  # [V, H]
    lm_head: Tensor  # [V, H]
    rotary: tuple[Tensor, Tensor]  # cosine and sine tables of `decoder.rotary_table`, for the draft head

    @property
    def aux_layers(self) -> tuple[int, ...]:
        """Layers whose input states are the features returned by `prefill`, `verify` and `features`."""

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> Self:
        """Return the same model with other feature layers, sharing weights; this one keeps its own."""

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """Reserve memory for `batch` sequences of up to `capacity` tokens."""

    def prefill(self, ids: Sequence[int], cache: KVCache, row: int = 0) -> Forward:
        """Append a prompt to a sequence and commit it. Logits of the last token only [1, V], features of all."""

    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: KVCache, row: int = 0) -> Forward:
        """Score a tree behind the committed prefix without committing it."""

    def commit(self, cache: KVCache, path: Tensor, row: int = 0) -> None:
        """Keep these rows of the tree verified last (ascending, root first) and drop the rest."""

    def decode(self, tokens: Tensor, cache: KVCache, active: Sequence[bool]) -> Tensor:
        """One token for each sequence of a batch [B]; commits the active ones. Returns logits [B, V]."""

    def features(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F] and final hidden states [B, T, H] of whole right-padded sequences [B, T]."""

    def score_trees(
        self, trees: Sequence[DraftTree], prefixes: Sequence[int], cache: KVCache, *, temperature: float = 1.0
    ) -> list[TreeScores]:
        """Score many trees against one committed text, each as `verify` would behind the first `prefixes[i]` tokens.

        The cache is of one sequence with `scoring.room` free rows; nothing is committed.
        """
