"""The frozen target as seen by drafting, verification and training; implemented by `torch_runtime.py` and `native/`.

Shapes: N new tokens of one sequence, B sequences, T tokens, V vocabulary, H hidden, F = 3 H features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from edgeai.core.errors import UsageError
from edgeai.spec.config.target import Runtime
from edgeai.spec.draft.tree import DraftTree

Message = Mapping[str, Any]
"""One turn of a conversation: role and content, and what the template knows besides, such as `tool_calls`."""
Tools = Sequence[Mapping[str, Any]]
"""Functions that a model may call, each `{"type": "function", "function": {...}}`."""
Cache: TypeAlias = Any
"""Keys and values of several sequences, as a runtime keeps them.

`lengths` tokens of each are committed and `capacity` fit. `lengths[row]` may be lowered to drop the end of a text,
`copy(source, row, count)` copies the beginning of another sequence, and `shrink(rows)` drops the other sequences.
"""


@dataclass(frozen=True)
class Shape:
    """Shape of a decoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_positions: int


class ChatTemplateError(UsageError):
    """The model's chat template refuses the messages.

    Args:
        reason: The template's sentence.
    """

    def __init__(self, reason: object) -> None:
        text = " ".join(str(reason).split()) or type(reason).__name__
        super().__init__(f"the chat template refuses the messages: {text}")


_RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


def merged_template_values(before: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for a chat template, the new ones over those before.

    Raises:
        UsageError: A name belongs to the tokenizer itself.
    """
    for name in values:
        if name in _RESERVED:
            raise UsageError(
                f"chat_template_kwargs: '{name}' is set by the tokenizer", hint="leave it out; give the template's own"
            )
    return {**before, **values}


def added_once(plain: list[int], full: list[int]) -> list[int]:
    """Return the ids of a text with added tokens, without the first one if the text itself begins with it.

    Args:
        plain: Token ids of the text.
        full: The same with the tokens that the tokenizer adds.
    """
    is_twice = len(full) > len(plain) > 0 and full[:2] == [plain[0], plain[0]]
    return full[1:] if is_twice else full


class Tokenizer(Protocol):
    """Tokenizer with the model's chat template."""

    eos_ids: frozenset[int]

    @property
    def chat_template(self) -> str | None:
        """Source of the chat template that renders tools; None for a model without a template."""

    @property
    def definition(self) -> str | None:
        """Vocabulary and rules in the format of tokenizer.json; None for a tokenizer that has no such file."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of text; special tokens in the text are recognized, none are added."""

    def encode_raw(self, text: str) -> list[int]:
        """Return the token ids of text that no template made, with the tokens that the tokenizer adds, such as BOS.

        A first token that the text holds already is not added again.
        """

    def encode_chat(self, text: str) -> list[int]:
        """Return the token ids of a rendered chat: as `encode`, as templates write BOS themselves; as `encode_raw` for
        a model without a template.
        """

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """Return the text of token ids; special tokens are dropped unless `keep_special` is set."""

    def entry(self, token: int) -> str | None:
        """Return the vocabulary's own spelling of a token, which may encode bytes; None beyond the vocabulary."""

    def render(self, messages: Sequence[Message], *, open_answer: bool, tools: Tools | None = None) -> str:
        """Apply the chat template; `open_answer` ends the text with the header of the assistant's turn.

        Templates without tools ignore `tools`; see `chat_template`.

        Raises:
            ChatTemplateError: The template refuses the messages.
        """

    def with_template_values(self, values: Mapping[str, Any]) -> Self:
        """Return the same tokenizer with more values for the chat template; this one keeps its own.

        Raises:
            UsageError: A name belongs to the tokenizer itself.
        """


@dataclass(frozen=True)
class TreeScores:
    """Scores of a draft tree, on the CPU."""

    log_probs: Tensor  # [N] log probability of each node's token given the path to its parent; root 0
    best: Tensor  # [N] the target's greedy choice after each node


@dataclass(frozen=True)
class Forward:
    """Output of the target for N tokens."""

    logits: Tensor  # [N, V] float32, row i predicts the token after token i
    features: Tensor  # [N, F], input of the draft head


@dataclass(frozen=True)
class Segment:
    """New tokens of one sequence, written after its committed tokens but not committed."""

    row: int
    """Sequence in the cache."""
    tokens: Tensor  # [n], parents before children
    depths: Tensor  # [n], position counted from the committed end
    ancestors: Tensor  # [n, n] bool, token i attends to token j; the diagonal is True
    logits: slice
    """Tokens whose next-token logits are needed."""

    @classmethod
    def of_tree(cls, row: int, tree: DraftTree) -> Self:
        """Return the segment that verifies a tree, with logits for every node."""
        return cls(row, tree.tokens, tree.depths, tree.ancestors, slice(None))

    @classmethod
    def of_prompt(cls, row: int, ids: Sequence[int], *, is_last: bool, needs_all: bool = False) -> Self:
        """Return the segment of a part of a prompt, with logits after the last token if it is the last part.

        Args:
            row: Sequence in the cache.
            ids: Tokens of the part.
            is_last: True if the prompt ends with this part.
            needs_all: True computes the logits after every token.
        """
        steps = torch.arange(len(ids))
        logits = slice(None) if needs_all else slice(-1, None) if is_last else slice(0, 0)
        return cls(row, torch.tensor(ids), steps, steps <= steps[:, None], logits)


@dataclass(frozen=True)
class SegmentResult:
    """Output of the target for a segment."""

    logits: Tensor  # [tokens of Segment.logits, V] float32
    features: Tensor  # [n, F]; F = 0 without feature layers


class Target(Protocol):
    """A frozen model in some runtime, as needed by drafting, verification and training."""

    runtime: Runtime
    """Code that computes the model."""
    name: str
    """Name of the model as the user gave it."""
    fingerprint: str
    """Hash of values of every tensor: heads are accepted only for the same value."""
    former_fingerprint: str
    """The hash of fewer weights that earlier versions recorded in heads and features; "" if there is none."""
    shape: Shape
    """Sizes of the decoder."""
    tokenizer: Tokenizer
    """Tokenizer of the model."""
    dtype: torch.dtype
    """Number format of features and of the draft head."""
    device: torch.device
    """Device of the tensors that methods take and return."""

    @property
    def rotary(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine tables of the rotary embedding, for the draft head."""

    @property
    def embedding(self) -> Tensor:
        """Embedding of every token [V, H]."""

    def decoding(self) -> AbstractContextManager[None]:
        """Return a context for loops of many short passes, in which the target has the CPU's cores for itself."""

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings of tokens [..., H]; other than `embedding`, this needs no memory of its own."""

    @property
    def lm_head(self) -> Tensor:
        """Output matrix [V, H]."""

    @property
    def is_exact(self) -> bool:
        """True if a token's logits do not depend on the tokens computed with it, so that decoding plainly and
        speculatively, alone and in a batch, must give equal texts.
        """

    @property
    def aux_layers(self) -> tuple[int, ...]:
        """Layers whose input states are the features returned by `prefill`, `verify` and `features`."""

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> Self:
        """Return the same model with other feature layers, sharing weights; this one keeps its own."""

    def new_cache(self, capacity: int, batch: int = 1) -> Cache:
        """Reserve memory for `batch` sequences of up to `capacity` tokens."""

    def cache_bytes(self, capacity: int) -> int:
        """Return the memory of one sequence of up to `capacity` tokens in a cache."""

    def prefill(self, ids: Sequence[int], cache: Cache, row: int = 0) -> Forward:
        """Append a prompt to a sequence and commit it. Returns logits of the last token [1, V] and features of all."""

    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: Cache, row: int = 0) -> Forward:
        """Compute logits and features of a tree after the committed prefix, without committing it.

        Args:
            tokens: Root and draft tokens, parents before children [N].
            depths: Distance from the root [N].
            ancestors: Visibility: node i attends to node j [N, N]; the diagonal is True.
            cache: Cache with the prefix; the tree is written after it.
            row: Sequence in the cache.
        """

    def commit(self, cache: Cache, path: Tensor, row: int = 0) -> None:
        """Commit the accepted rows of the last verified tree (ascending, root first) and drop the rest."""

    def run_segments(self, segments: Sequence[Segment], cache: Cache) -> list[SegmentResult]:
        """Run draft trees and parts of prompts of several sequences in one pass, without committing them.

        Args:
            segments: Segments of different sequences.
            cache: Cache with the committed texts; new tokens are written after them.
        """

    def commit_paths(self, cache: Cache, paths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Commit the accepted tokens of many sequences after `run_segments`.

        Args:
            cache: Cache of that pass.
            paths: Pairs of a sequence and the offsets of its accepted tokens, ascending.
        """

    def decode(self, tokens: Tensor, cache: Cache, active: Sequence[bool]) -> Tensor:
        """Run one token per sequence of a batch [B] and commit the active ones. Returns logits [B, V]."""

    def features(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, T, F] and final hidden states [B, T, H] of right-padded sequences [B, T]."""

    def features_and_choices(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output of `features`, and the greedy choice after every token [B, T]."""

    def score_trees(
        self, trees: Sequence[DraftTree], prefixes: Sequence[int], cache: Cache, *, temperature: float = 1.0
    ) -> list[TreeScores]:
        """Score many trees of one committed text, each like `verify` after the first `prefixes[i]` tokens.

        Args:
            trees: Trees, parents before children.
            prefixes: Number of text tokens before each root; the root itself is a node of the tree.
            cache: Cache of one sequence with the whole text and `tree_scoring.room` free rows; nothing is committed.
            temperature: Temperature of the log probabilities; the greedy choices do not depend on it.
        """


def check_tokens(target: Target, ids: Sequence[int]) -> None:
    """Check that the embedding has every token of a prompt; a tokenizer may know more of them.

    Raises:
        UsageError: It lacks one; names it.
    """
    highest = max(ids, default=0)
    if highest >= target.shape.vocab_size:
        raise UsageError(
            f"the prompt holds the token {target.tokenizer.entry(highest)!r} ({highest}), but the embedding of "
            f"{target.name} has {target.shape.vocab_size} tokens",
            hint="the tokenizer is larger than the model: give the model with its own tokenizer",
        )
