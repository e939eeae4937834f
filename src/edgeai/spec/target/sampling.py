"""Sampling from the target: temperature, top-k, top-p and min-p, and one draw per token.

Plain and speculative decoding share this code and draw once per emitted token, so that a seed gives the same text
in both.

Shapes: V vocabulary, K kept tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constraint import Constraint

# top-p rarely needs more tokens, and sorting a whole large vocabulary takes milliseconds on a CPU
_SHORT_LIST = 512
_MIN_TEMPERATURE = 1e-30  # greedy for every difference of logits that float32 can express


def warp(logits: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor | None]:
    """Apply temperature, then top-k, then top-p, then min-p.

    Args:
        logits: Logits of one position [V], float32.
        config: Sampling settings with a temperature above 0.

    Returns:
        Probabilities that sum to 1 [K] and their token ids [K], most likely first. Without top-k and top-p, the ids
        are None and K = V.
    """
    # the largest is 0: no temperature overflows, and one that float32 rounds to 0 would give 0 / 0
    logits = (logits - logits.max()) / max(config.temperature, _MIN_TEMPERATURE)
    ids = None
    if config.top_k:
        logits, ids = logits.topk(min(config.top_k, logits.shape[0]))
    probs = logits.softmax(-1)
    if config.top_p < 1.0:
        probs, ids = _nucleus(probs, ids, config.top_p)
    if config.min_p > 0.0:
        probs = probs * (probs >= config.min_p * probs.max())
    return probs / probs.sum(), ids


def _nucleus(probs: Tensor, ids: Tensor | None, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the smallest set of most likely tokens with a mass of at least top_p; `probs` with ids are sorted."""
    if ids is None:
        short, ids = probs.topk(min(_SHORT_LIST, probs.shape[0]))
        if float(short.sum()) < top_p:
            short, ids = probs.sort(descending=True, stable=True)
        probs = short
    before = probs.cumsum(-1) - probs
    keep = max(int((before < top_p).sum()), 1)  # float32 may round top_p to 0
    return probs[:keep], ids[:keep]


def distribution(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Return the distribution over the whole vocabulary [V]; at temperature 0 the best token has probability 1."""
    out = torch.zeros_like(logits)
    if config.temperature == 0.0:
        out[logits.argmax()] = 1.0
        return out
    probs, ids = warp(logits, config)
    return probs if ids is None else out.scatter_(0, ids, probs)


def masked(logits: Tensor, constraint: Constraint) -> Tensor:
    """Return logits [V] with minus infinity for the tokens that may not come next."""
    allowed = torch.from_numpy(constraint.mask()).to(logits.device)
    return logits.masked_fill(~allowed, float("-inf"))


class Sampler:
    """Samples the tokens of one request with its own random number generator.

    The generator is on the CPU regardless of the target's device, so that a seed has the same meaning on all devices.

    Args:
        config: Sampling settings; temperature 0 is greedy.
        constraint: Constraint of the answer, applied before temperature and truncation; None allows all tokens.
    """

    def __init__(self, config: SamplingConfig, constraint: Constraint | None = None) -> None:
        self._config, self._constraint = config, constraint
        self._generator = torch.Generator().manual_seed(config.seed)

    def pick(self, logits: Tensor) -> int:
        """Sample the next token from logits [V] and advance the constraint; draws one random number unless greedy."""
        if self._constraint is None:
            return self._draw(logits)
        token = self._draw(masked(logits, self._constraint))
        self._constraint.advance(token)
        return token

    def picker(self, logits: Tensor) -> Callable[[int], int]:
        """Return a function from a row of logits [N, V] to that row's next token.

        Few rows are needed. On a CPU only those are computed; on an accelerator the greedy choice of all rows is
        computed at once, because synchronization dominates the cost.
        """
        if self._config.temperature == 0.0 and logits.device.type != "cpu" and self._constraint is None:
            best: list[int] = logits.argmax(-1).tolist()
            return best.__getitem__
        return lambda row: self.pick(logits[row])

    def _draw(self, logits: Tensor) -> int:
        if self._config.temperature == 0.0:
            # NumPy's argmax, which also takes the first of equal values, is ten times as fast as torch's
            return int(logits.numpy().argmax() if logits.device.type == "cpu" else logits.argmax())
        probs, ids = warp(logits, self._config)
        uniform = torch.rand((), dtype=torch.float64, generator=self._generator)
        # inverse transform sampling in float64: 50,000 small probabilities sum to 1 without a visible bias
        cumulative = probs.double().cumsum(0)
        point = uniform.to(cumulative.device) * cumulative[-1]
        index = int(torch.searchsorted(cumulative, point, right=True))
        if index == cumulative.shape[0]:  # the product was rounded up to the total
            index = int(probs.nonzero()[-1])
        return index if ids is None else int(ids[index])
