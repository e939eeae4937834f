"""Is a served answer the one that plain greedy decoding gives? As in `lossless.py`, from the outside.

The answer's tokens alone are known here. Where they part from plain decoding, plain decoding is forced along them, one
token at a time: at every position its own choice must be the token written, or lose to it by no more than the rounding
noise of this answer, which is the largest difference of any logit between those passes and one pass over the whole
text. In float32 there is no such allowance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.target.torch_runtime import DecoderTarget

Verdict = Literal["equal", "tie", "wrong"]


class Checker:
    """Judges answers to known prompts; what was judged before costs nothing.

    Args:
        target: The served model, loaded here.
        texts: What was asked.
        max_tokens: Most tokens of an answer.
    """

    def __init__(self, target: DecoderTarget, texts: Sequence[str], *, max_tokens: int) -> None:
        self._target = target
        self._max_tokens = max_tokens
        self._prompts = [chat_ids(target.tokenizer, text) for text in texts]
        self._plain: dict[int, tuple[int, ...]] = {}
        self._judged: dict[tuple[int, tuple[int, ...]], Verdict] = {}

    def judge(self, prompt: int, ids: tuple[int, ...]) -> Verdict:
        """Compare an answer with plain decoding."""
        if prompt not in self._plain:
            self._plain[prompt] = generate_ids(
                self._target,
                None,
                self._prompts[prompt],
                tree=TreeConfig(),
                sampling=SamplingConfig(),
                max_tokens=self._max_tokens,
                context=self._target.shape.max_positions,
            ).ids
        if ids == self._plain[prompt]:
            return "equal"
        key = prompt, ids
        if key not in self._judged:
            is_tie = self._target.dtype != torch.float32 and self._is_tie(self._prompts[prompt], ids)
            self._judged[key] = "tie" if is_tie else "wrong"
        return self._judged[key]

    @torch.inference_mode()
    def _is_tie(self, prompt: Sequence[int], ids: Sequence[int]) -> bool:
        target = self._target
        ends = ids[-1:] and ids[-1] in target.tokenizer.eos_ids
        if not ids or any(token in target.tokenizer.eos_ids for token in ids[:-1]):
            return False
        if not ends and len(ids) != self._max_tokens:
            return False
        _, hidden = target.features(torch.tensor([[*prompt, *ids[:-1]]], device=target.device))
        whole = F.linear(hidden[0, len(prompt) - 1 :], target.lm_head).float()  # [len(ids), V]
        cache = target.new_cache(len(prompt) + len(ids) + 1)
        logits = target.prefill(prompt, cache).logits[-1]
        root = torch.zeros(1, dtype=torch.long, device=target.device)
        alone = torch.ones(1, 1, dtype=torch.bool, device=target.device)
        noise, largest_gap = 0.0, 0.0
        for place, token in enumerate(ids):
            noise = max(noise, float((logits - whole[place]).abs().max()))
            largest_gap = max(largest_gap, float(logits.max() - logits[token]))
            logits = target.verify(torch.tensor([token], device=target.device), root, alone, cache).logits[0]
            target.commit(cache, root)
        return largest_gap <= noise
