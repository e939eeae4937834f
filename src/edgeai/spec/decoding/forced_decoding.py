"""Plain decoding forced along given tokens, and the rounding noise of its logits.

In bfloat16 and float16 the kernels for one and for n tokens round differently, so that two tokens whose logits nearly
tie may swap. To judge such a difference, plain decoding reads the tokens of the answer one by one; every position then
has the logits that plain decoding uses after the same text.

Rounding noise: the largest absolute difference, over the whole vocabulary and all positions of the answer, between the
one-token logits and those of a single pass over the whole text. That pass shares no tree, mask or cache move with
speculative decoding, so a bug there is not mistaken for noise.

Shapes: V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class ForcedStep:
    """Plain decoding at one position of an answer."""

    logits: Tensor  # [V] for this position, after the prompt and the tokens before it
    noise: float
    """Largest absolute difference between `logits` and those of a single pass over the whole text."""


@torch.inference_mode()
def forced_decoding(target: Target, prompt_ids: Sequence[int], ids: Sequence[int]) -> Iterator[ForcedStep]:
    """Yield plain decoding's step at every position of an answer.

    Args:
        target: Model that decodes.
        prompt_ids: Prompt with its chat template applied.
        ids: Tokens of the answer, at least one.
    """
    target = target.with_aux_layers(())
    _, hidden = target.features(torch.tensor([[*prompt_ids, *ids[:-1]]], device=target.device))
    hidden = hidden[0, len(prompt_ids) - 1 :]  # [len(ids), H], row i predicts ids[i]
    cache = target.new_cache(len(prompt_ids) + len(ids) + 1)
    root = torch.zeros(1, dtype=torch.long, device=target.device)
    alone = torch.ones(1, 1, dtype=torch.bool, device=target.device)
    logits = target.prefill(prompt_ids, cache).logits[-1]
    for position, token in enumerate(ids):
        whole = F.linear(hidden[position], target.lm_head).float()
        yield ForcedStep(logits, float((logits - whole).abs().max()))
        logits = target.verify(torch.tensor([token], device=target.device), root, alone, cache).logits[0]
        target.commit(cache, root)
