"""Losslessness check: compare speculative answers with plain ones, and explain every difference.

On the native runtime and in float32 the answers must be equal token for token (`Target.is_exact`). In bfloat16 and
float16 near-ties may swap (`forced_decoding.py`), and from there on the texts differ. An answer that differs is decoded
speculatively once more while plain decoding is forced along the same tokens. At every position this gives the logits
that speculative decoding used and those of plain decoding after the same text, so that the plain reference restarts
after each difference and the whole answer is checked, not only the common beginning.

The logits used by speculative decoding may differ from plain decoding's by twice the rounding noise: two kernels, each
within that noise of the exact result. Wrong positions, masks or cache rows shift logits by far more.

Shapes: V vocabulary, N tree nodes, A accepted nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.difference import Difference
from edgeai.spec.decoding.forced_decoding import forced_decoding
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.target.protocol import Cache, Forward, Target
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
    """Return the differences between two answers to one prompt; equal answers cost nothing.

    Args:
        target: Model that wrote both answers.
        drafter: Drafter of the speculative answer.
        prompt_ids: Prompt with its chat template applied.
        plain: Answer of plain decoding.
        speculative: Answer of speculative decoding.
        tree: Largest tree per cycle of the speculative answer.
        sampling: Sampling of both answers, with the same seed.
        max_tokens: Maximum number of tokens of the answer.
        context: Maximum number of tokens of prompt and answer.
    """
    if plain.ids == speculative.ids:
        return ()
    ids = speculative.ids
    audit = _Audit(target, prompt_ids, ids, sampling)
    again = generate_ids(
        cast(Target, _LogitsRecorder(target, audit.see)),
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
    """Compares the logits of both decodings position by position.

    Args:
        target: Model that wrote the answer.
        prompt_ids: Prompt with its chat template applied.
        ids: Tokens of the speculative answer.
        sampling: Sampling of the answer.
    """

    def __init__(self, target: Target, prompt_ids: Sequence[int], ids: Sequence[int], sampling: SamplingConfig) -> None:
        self._target, self._is_greedy = target, sampling.temperature == 0.0
        self._plain_sampler, self._used_sampler = Sampler(sampling), Sampler(sampling)
        self._steps = enumerate(zip(ids, forced_decoding(target, prompt_ids, ids), strict=True))
        self._found: list[Difference] = []
        self.noise = 0.0

    def see(self, used: Tensor) -> None:
        """Compare the logits [V] that speculative decoding used at the next position with plain decoding's."""
        step = next(self._steps, None)
        if step is None:  # the pass that ended the answer also predicted a token after its end
            return
        position, (written, plain) = step
        self.noise = max(self.noise, plain.noise)
        wanted = self._plain_sampler.pick(plain.logits)
        follows = self._used_sampler.pick(used) == written
        if wanted == written and follows:
            return
        decode = self._target.tokenizer.decode
        self._found.append(
            Difference(
                position=position,
                plain=decode([wanted]),
                speculative=decode([written]),
                gap=float(plain.logits[wanted] - plain.logits[written]) if self._is_greedy else None,
                shift=float((used - plain.logits).abs().max()),
                noise=0.0,
                is_tie=False,
                why="" if follows else "the token does not follow from the logits",
            )
        )

    def verdicts(self) -> list[Difference]:
        """Return all differences, judged by the noise of the whole answer."""
        return [self._judge(difference) for difference in self._found]

    def _judge(self, seen: Difference) -> Difference:
        why = seen.why
        if not why and (seen.shift > 2 * self.noise or (seen.gap or 0.0) > self.noise):
            why = "more than rounding noise"
        if not why and self._target.is_exact:
            why = f"{'float32' if self._target.runtime == 'torch' else 'the native runtime'} must be equal"
        return replace(seen, noise=self.noise, is_tie=not why, why=why)


class _LogitsRecorder:
    """A target that reports the logits used for every committed token.

    Args:
        target: Model that decodes.
        see: Called with the logits [V] after the prompt and after each committed token.
    """

    def __init__(self, target: Target, see: Callable[[Tensor], None]) -> None:
        self._target, self._see = target, see
        self._logits = torch.empty(0)

    def __getattr__(self, name: str) -> Any:
        """Return the target's own attribute."""
        return getattr(self._target, name)

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> _LogitsRecorder:
        """See `Target`."""
        return _LogitsRecorder(self._target.with_aux_layers(aux_layers), self._see)

    def prefill(self, ids: Sequence[int], cache: Cache) -> Forward:
        """See `Target`."""
        forward = self._target.prefill(ids, cache)
        self._see(forward.logits[-1])
        return forward

    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: Cache) -> Forward:
        """See `Target`."""
        forward = self._target.verify(tokens, depths, ancestors, cache)
        self._logits = forward.logits  # [N, V]
        return forward

    def commit(self, cache: Cache, path: Tensor) -> None:
        """See `Target`; reports the logits of the accepted nodes [A]."""
        self._target.commit(cache, path)
        for node in path.tolist():
            self._see(self._logits[node])
