"""Compare served greedy answers with plain greedy decoding.

Only the tokens of an answer are known here. If they differ from plain decoding's, plain decoding is forced along them:
at every position the logit of its own choice may exceed that of the served token by at most the rounding noise of this
answer (`decoding/forced_decoding.py`). On the native runtime and in float32 no
difference is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.forced_decoding import forced_decoding
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.target.protocol import Target

Verdict = Literal["equal", "tie", "wrong"]


class AnswerChecker:
    """Checks served answers to known prompts; plain answers and verdicts are cached.

    Args:
        target: The served model, loaded in this process.
        prompts: Prompts; of each the first user turn.
        max_tokens: Most tokens per answer.
    """

    def __init__(self, target: Target, prompts: Sequence[str | Prompt], *, max_tokens: int) -> None:
        self._target = target
        self._max_tokens = max_tokens
        self._prompts = [chat_ids(target.tokenizer, prompt) for prompt in prompts]
        self._plain: dict[int, tuple[int, ...]] = {}
        self._judged: dict[tuple[int, tuple[int, ...]], Verdict] = {}

    def judge(self, prompt: int, ids: tuple[int, ...]) -> Verdict:
        """Compare a served answer with plain decoding.

        Args:
            prompt: Index of the prompt.
            ids: Tokens of the answer.
        """
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
            is_tie = not self._target.is_exact and self._is_tie(self._prompts[prompt], ids)
            self._judged[key] = "tie" if is_tie else "wrong"
        return self._judged[key]

    def _is_tie(self, prompt: Sequence[int], ids: Sequence[int]) -> bool:
        target = self._target
        ends = ids[-1:] and ids[-1] in target.tokenizer.eos_ids
        if not ids or any(token in target.tokenizer.eos_ids for token in ids[:-1]):
            return False
        if not ends and len(ids) != self._max_tokens:
            return False
        noise, largest_gap = 0.0, 0.0
        for token, plain in zip(ids, forced_decoding(target, prompt, ids), strict=True):
            noise = max(noise, plain.noise)
            largest_gap = max(largest_gap, float(plain.logits.max() - plain.logits[token]))
        return largest_gap <= noise
