"""Sampler of one request: `Sampler` with penalties, logit biases and log probabilities.

Penalties and biases change the logits first; the grammar then forbids tokens, so that no bias can allow them.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgeai.spec.constraints.constraint import Constraint
from edgeai.spec.serve.engine.events import TokenLogprobs
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.target.sampling import Sampler


class RequestSampler(Sampler):
    """Samples the tokens of one answer, in order.

    Verification samples along the accepted path, which is the order of the text. The penalties of a draft token
    therefore count all tokens before it, as in plain decoding.

    Args:
        job: Sampling options, penalties, biases and number of log probabilities.
        constraint: Constraint of the answer; None allows all tokens.
    """

    def __init__(self, job: GenerationJob, constraint: Constraint | None = None) -> None:
        super().__init__(job.sampling, constraint)
        self._job = job
        self._counts: dict[int, int] = {}
        self._changes_logits = bool(job.frequency_penalty or job.presence_penalty or job.logit_bias)
        self.logprobs: list[TokenLogprobs] = []
        """Log probabilities of the tokens sampled since the caller last emptied this list; empty unless requested."""

    def pick(self, logits: Tensor) -> int:
        """See `Sampler`; also counts the token and records its log probabilities."""
        token = super().pick(self._changed(logits) if self._changes_logits else logits)
        if self._changes_logits:
            self._counts[token] = self._counts.get(token, 0) + 1
        if self._job.num_logprobs is not None:
            self.logprobs.append(token_logprobs(logits, token, self._job.num_logprobs))
        return token

    def picker(self, logits: Tensor) -> Callable[[int], int]:
        """See `Sampler`."""
        if self._changes_logits or self._job.num_logprobs is not None:
            return lambda row: self.pick(logits[row])
        return super().picker(logits)

    def _changed(self, logits: Tensor) -> Tensor:
        """Return the logits [V] with penalties and biases applied."""
        job = self._job
        changes = dict(job.logit_bias)
        for token, count in self._counts.items():
            changes[token] = changes.get(token, 0.0) - job.presence_penalty - job.frequency_penalty * count
        if not changes:
            return logits
        tokens = torch.tensor(list(changes), device=logits.device)
        return logits.index_add(0, tokens, torch.tensor(list(changes.values()), device=logits.device))


def token_logprobs(logits: Tensor, token: int, num_top: int) -> TokenLogprobs:
    """Return the log probability of a token and the most likely ones, from the logits before it [V]."""
    log_probs = logits.log_softmax(-1)
    best = log_probs.topk(min(num_top, log_probs.shape[0]))
    top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return TokenLogprobs(token, float(log_probs[token]), tuple(top))
