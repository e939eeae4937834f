"""How closely one target's predictions follow another's of the same vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.data.prompts import builtin_prompts
from edgeai.spec.target.protocol import Target, Tokenizer

_CHUNK = 64  # tokens of a pass


@dataclass(frozen=True)
class Agreement:
    """Next-token predictions of two targets for the same texts, teacher-forced."""

    mean_kl_nats: float
    """Mean Kullback-Leibler divergence of the other's distribution from the reference's."""
    top1_agreement: float
    """Share of positions with the same most probable token."""
    num_tokens: int
    """Number of positions compared."""


def measure_agreement(reference: Target, other: Target, texts: Sequence[Sequence[int]], skip: int = 0) -> Agreement:
    """Compare two targets on texts.

    Args:
        reference: Target whose distribution counts as the true one.
        other: Target to judge.
        texts: Token ids; the first token's prediction is not compared.
        skip: Number of predictions left out at the start of each text, besides the first.
    """
    total_kl, num_equal, num_tokens = 0.0, 0, 0
    for text in texts:
        ids = list(text)[: min(reference.shape.max_positions, other.shape.max_positions)]
        start = 0
        for theirs, ours in zip(text_logits(reference, ids), text_logits(other, ids), strict=True):
            rows = slice(max(skip - start, 0), None)
            start += len(theirs)
            divergence, equal = compare_logits(theirs[rows], ours[rows])
            total_kl += float(divergence.sum())
            num_equal += int(equal.sum())
            num_tokens += len(equal)
    return Agreement(total_kl / max(num_tokens, 1), num_equal / max(num_tokens, 1), num_tokens)


def compare_logits(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the divergence (nats) of each row [N], and whether its most probable token is the same [N]."""
    p, q = reference.double().log_softmax(-1), other.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1), reference.argmax(-1) == other.argmax(-1)


def builtin_texts(tokenizer: Tokenizer) -> list[list[int]]:
    """Return the built-in prompts as chats up to the start of the answer."""
    return [
        tokenizer.encode_chat(tokenizer.render([{"role": "user", "content": prompt.turns[0]}], open_answer=True))
        for prompt in builtin_prompts()
    ]


def text_logits(target: Target, ids: Sequence[int]) -> Iterator[Tensor]:
    """Yield the logits after every token but the first, in blocks [n, V] float32."""
    cache = target.new_cache(len(ids))
    target.prefill(ids[:1], cache)
    for begin in range(1, len(ids), _CHUNK):
        tokens = torch.tensor(ids[begin : begin + _CHUNK], device=target.device)
        order = torch.arange(len(tokens), device=target.device)
        chain = order[None] <= order[:, None]
        yield target.verify(tokens, order, chain, cache).logits.cpu()
        target.commit(cache, order)
