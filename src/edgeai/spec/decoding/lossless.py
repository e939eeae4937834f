"""Did speculative decoding write what plain decoding writes? Every difference is looked into, none is explained away.

In float32 the answers must be equal token for token. In bfloat16 and float16 the kernels for one and for n tokens round
differently: two tokens whose logits nearly tie may swap, and from there on the texts differ. Such an answer is decoded
speculatively once more while plain decoding, one token at a time, is forced along the same tokens. At every position
this gives the logits that speculative decoding used and those that plain decoding would use after the same text. So the
plain reference starts anew after each difference, and the whole answer is checked, not only its common beginning.

Rounding noise: the largest absolute difference, over the whole vocabulary and all positions of the answer, between the
one-token logits and those of a single pass over the whole text. That pass shares no tree, mask or cache move with the
code under test, so a bug there cannot pass for noise. The logits that speculative decoding used may lie twice as far
from plain decoding's: two kernels, each within that noise of what exact arithmetic gives. Wrong positions, masks or
cache rows shift logits by far more.

Shapes: V vocabulary, T tokens of prompt and answer, H hidden, N tree nodes, A accepted nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.difference import Difference
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.target.kv_cache import KVCache
from edgeai.spec.target.protocol import Forward, Target
from edgeai.spec.target.sampling import Sampler


def differences(
    target: Target,
    drafter: Drafter,
    prompt_ids: Sequence[int],
    plain: Generation,
    speculative: Generation,
    *,
    tree: TreeConfig,
    sampling: SamplingConfig,
    max_tokens: int,
    context: int,
) -> tuple[Difference, ...]:
    """Compare two answers to one prompt; equal answers cost nothing.

    Args:
        target: Wrote both.
        drafter: Drafted the speculative one.
        prompt_ids: What was asked.
        plain: Answer of plain decoding.
        speculative: Answer of speculative decoding.
        tree: As for the speculative answer; the other options as for both.
        sampling: Temperature and so on; both answers drew the same random numbers.
        max_tokens: Most tokens of the answer.
        context: Most tokens of prompt and answer.
    """
    if plain.ids == speculative.ids:
        return ()
    ids = speculative.ids
    audit = _Audit(target, prompt_ids, ids, sampling)
    again = generate_ids(
        cast(Target, _Witness(target, len(prompt_ids) + len(ids), audit.see)),
        drafter,
        prompt_ids,
        tree=tree,
        sampling=sampling,
        max_tokens=max_tokens,
        context=context,
    )
    found = audit.verdicts()
    first = next((i for i, (a, b) in enumerate(zip(plain.ids, ids, strict=False)) if a != b), None)
    if again.ids != ids:
        found.append(_broken(audit, 0, "speculative decoding did not repeat itself"))
    elif first is None:
        found.append(_broken(audit, min(len(ids), len(plain.ids)), "one answer ends before the other"))
    elif all(difference.position != first for difference in found):
        found.append(_broken(audit, first, "plain decoding did not repeat itself"))
    return tuple(found)


def _broken(audit: _Audit, position: int, why: str) -> Difference:
    return Difference(position, "", "", None, 0.0, audit.noise, False, why)


class _Audit:
    """Goes through an answer position by position and keeps what matters of the logits."""

    def __init__(self, target: Target, prompt_ids: Sequence[int], ids: Sequence[int], sampling: SamplingConfig) -> None:
        self._target, self._ids, self._is_greedy = target, ids, sampling.temperature == 0.0
        self._plain_sampler, self._used_sampler = Sampler(sampling), Sampler(sampling)
        self._position = 0
        self._found: list[Difference] = []
        self.noise = 0.0
        _, hidden = target.features(torch.tensor([[*prompt_ids, *ids[:-1]]], device=target.device))
        self._hidden = hidden[0, len(prompt_ids) - 1 :]  # [len(ids), H], row i predicts ids[i]

    def see(self, used: Tensor, plain: Tensor) -> None:
        """Logits [V] for the next position: those speculative decoding used, and plain decoding's."""
        position = self._position
        if position == len(self._ids):  # the pass that ended the answer also predicted what nobody asked for
            return
        self._position += 1
        whole = F.linear(self._hidden[position], self._target.lm_head).float()
        self.noise = max(self.noise, float((plain - whole).abs().max()))
        written, wanted = self._ids[position], self._plain_sampler.pick(plain)
        follows = self._used_sampler.pick(used) == written
        if wanted == written and follows:
            return
        decode = self._target.tokenizer.decode
        self._found.append(
            Difference(
                position=position,
                plain=decode([wanted]),
                speculative=decode([written]),
                gap=float(plain[wanted] - plain[written]) if self._is_greedy else None,
                shift=float((used - plain).abs().max()),
                noise=0.0,
                is_tie=False,
                why="" if follows else "the token does not follow from the logits",
            )
        )

    def verdicts(self) -> list[Difference]:
        """All differences, judged by the noise of the whole answer."""
        return [self._judge(difference) for difference in self._found]

    def _judge(self, seen: Difference) -> Difference:
        why = seen.why
        if not why and (seen.shift > 2 * self.noise or (seen.gap or 0.0) > self.noise):
            why = "more than rounding noise"
        if not why and self._target.dtype == torch.float32:
            why = "float32 must be equal"
        return replace(seen, noise=self.noise, is_tie=not why, why=why)


class _Witness:
    """The target, with plain decoding following every token it commits.

    Args:
        target: Does the work.
        capacity: Tokens of prompt and answer.
        see: Told for each committed token, the prompt's last one first, the logits the caller got and plain decoding's.
    """

    def __init__(self, target: Target, capacity: int, see: Callable[[Tensor, Tensor], None]) -> None:
        self._target, self._see = target, see
        self._cache = target.new_cache(capacity + 1)
        self._tokens = self._logits = torch.empty(0)
        self._root = torch.zeros(1, dtype=torch.long, device=target.device)
        self._alone = torch.ones(1, 1, dtype=torch.bool, device=target.device)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the target's own."""
        return getattr(self._target, name)

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> _Witness:
        """See `Target`; for both decodings."""
        self._target = self._target.with_aux_layers(aux_layers)
        return self

    def prefill(self, ids: Sequence[int], cache: KVCache) -> Forward:
        """As the target; plain decoding reads the prompt in the same way."""
        forward = self._target.prefill(ids, cache)
        self._see(forward.logits[-1], self._target.prefill(ids, self._cache).logits[-1])
        return forward

    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: KVCache) -> Forward:
        """As the target."""
        forward = self._target.verify(tokens, depths, ancestors, cache)
        self._tokens, self._logits = tokens, forward.logits  # [N], [N, V]
        return forward

    def commit(self, cache: KVCache, path: Tensor) -> None:
        """As the target; then plain decoding reads the accepted tokens [A] one by one."""
        self._target.commit(cache, path)
        for node in path.tolist():
            plain = self._target.verify(self._tokens[node : node + 1], self._root, self._alone, self._cache)
            self._target.commit(self._cache, self._root)
            self._see(self._logits[node], plain.logits[0])
