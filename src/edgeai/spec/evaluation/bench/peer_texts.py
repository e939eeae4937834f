"""Whether rounding explains that a peer's answer differs from plain decoding's.

transformers computes the same float32 model with sums in another order. Its text may part from ours only where two
tokens nearly tie; a larger gap means that one of both computes another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from edgeai.spec.decoding.forced_decoding import forced_decoding
from edgeai.spec.evaluation.bench.repeats import Repeat
from edgeai.spec.evaluation.peers.transformers_peers import TransformersPeer
from edgeai.spec.target.protocol import Target

_LEAST_NOISE = 2e-6
"""Rounding noise relative to the largest logit where two passes of ours happen to round alike."""


def num_unexplained(target: Target, repeats: Sequence[Repeat], peer: object, name: str) -> int:
    """Return how many answers of a peer differ by more than rounding; 0 for peers with other arithmetic than ours.

    Args:
        target: Target that wrote our answers.
        repeats: Answers of all decoders; those of the first repeat are compared.
        peer: The peer.
        name: Name of the peer.
    """
    if not isinstance(peer, TransformersPeer) or target.runtime != "torch" or not target.is_exact:
        return 0
    first = repeats[0]
    return sum(
        not is_explained(target, ask.ids, ours.ids, theirs.ids)
        for ask, ours, theirs in zip(first.asks, first.plain.generations, first.peers[name], strict=False)
    )


def is_explained(target: Target, prompt_ids: Sequence[int], ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Return whether two greedy answers are equal or part at a near-tie.

    Two kernels may each be off by the rounding noise, for both tokens: a gap of four times the noise is a tie.

    Args:
        target: Target that wrote our answer.
        prompt_ids: Prompt of both answers.
        ours: Tokens of our answer.
        theirs: Tokens of the peer's.
    """
    at = common_prefix(ours, theirs)
    if at == min(len(ours), len(theirs)):
        return len(ours) == len(theirs)
    noise = 0.0
    for step in forced_decoding(target, prompt_ids, ours[: at + 1]):
        noise = max(noise, step.noise, _LEAST_NOISE * float(step.logits.abs().max()))
    gap = float(step.logits[ours[at]] - step.logits[theirs[at]])
    return gap <= 4 * noise


def common_prefix(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return the number of tokens before the first difference."""
    same = (a == b for a, b in zip(ours, theirs, strict=False))
    return sum(takewhile(bool, same))
