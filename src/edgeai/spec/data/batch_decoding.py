"""Continuous batch decoding: the target continues many texts at once.

Shapes: B sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeai.spec.target.protocol import Target, Tokenizer


@dataclass(frozen=True)
class DecodeJob:
    """A text to continue."""

    key: int
    """Identifier for the caller."""
    prompt: tuple[int, ...]
    """Token ids of the text."""
    max_new: int
    """Maximum number of new tokens."""
    temperature: float
    seed: tuple[int, ...]
    """Seed of the job's own random number generator."""


def decode_jobs(
    target: Target, jobs: Sequence[DecodeJob], *, batch: int, on_done: Callable[[DecodeJob, list[int]], None]
) -> None:
    """Continue many texts in a continuous batch: a finished sequence is replaced by the next job.

    Each job has its own random number generator, so its text does not depend on the other jobs (up to rounding).

    Args:
        target: Target that writes the texts.
        jobs: Jobs, processed shortest first.
        batch: Maximum number of sequences decoded together.
        on_done: Callback for each finished job and its new tokens, including an end-of-text token.
    """
    if not jobs:
        return
    # neighbors of similar length waste the least attention
    waiting = sorted(jobs, key=lambda job: len(job.prompt) + job.max_new)
    capacity = max(len(job.prompt) + job.max_new for job in waiting) + 1
    batch = min(batch, len(waiting))
    cache = target.new_cache(capacity, batch)
    slots: list[DecodeJob | None] = [None] * batch
    written: list[list[int]] = [[] for _ in range(batch)]
    draws = [np.random.default_rng(0)] * batch
    tokens = torch.zeros(batch, dtype=torch.long, device=target.device)

    while waiting or any(slots):
        logits_of: dict[int, Tensor] = {}
        for row in range(batch):
            if slots[row] is None and waiting:
                job = waiting.pop(0)
                slots[row], written[row], draws[row] = job, [], np.random.default_rng(job.seed)
                cache.lengths[row] = 0
                logits_of[row] = target.prefill(job.prompt, cache, row).logits[0]
        if logits_of:
            _choose(list(logits_of), torch.stack(list(logits_of.values())), slots, draws, tokens, written)
        active = _finish(target.tokenizer, slots, written, on_done)
        if not waiting and 2 * sum(active) <= len(slots):
            rows = [row for row, is_active in enumerate(active) if is_active]
            cache.shrink(rows)
            slots, written, draws = [slots[r] for r in rows], [written[r] for r in rows], [draws[r] for r in rows]
            tokens, active, batch = tokens[rows], [True] * len(rows), len(rows)
        if any(active):
            logits = target.decode(tokens, cache, active)
            rows = [row for row, is_active in enumerate(active) if is_active]
            _choose(rows, logits[rows], slots, draws, tokens, written)
            _finish(target.tokenizer, slots, written, on_done)


def _choose(
    rows: Sequence[int],
    logits: Tensor,
    slots: Sequence[DecodeJob | None],
    draws: Sequence[np.random.Generator],
    tokens: Tensor,
    written: list[list[int]],
) -> None:
    """Sample the next token of these rows: argmax at temperature 0, otherwise inverse CDF with one uniform draw
    each.
    """
    temperatures = torch.tensor([job.temperature for row in rows if (job := slots[row])], device=logits.device)
    chosen = logits.argmax(-1)
    warm = temperatures > 0
    if bool(warm.any()):
        uniform = torch.tensor([draws[row].random() for row, is_warm in zip(rows, warm, strict=True) if is_warm])
        cdf = (logits[warm] / temperatures[warm, None]).softmax(-1).cumsum(-1)
        point = uniform.to(logits.device, cdf.dtype)[:, None] * cdf[:, -1:]
        chosen[warm] = torch.searchsorted(cdf, point).squeeze(1).clamp_(max=logits.shape[-1] - 1)
    tokens[list(rows)] = chosen
    for row, token in zip(rows, chosen.tolist(), strict=True):
        written[row].append(token)


def _finish(
    tokenizer: Tokenizer,
    slots: list[DecodeJob | None],
    written: list[list[int]],
    on_done: Callable[[DecodeJob, list[int]], None],
) -> list[bool]:
    """Report finished sequences and free their rows; returns which rows are still active."""
    for row, job in enumerate(slots):
        if job and (len(written[row]) >= job.max_new or written[row][-1] in tokenizer.eos_ids):
            slots[row] = None
            on_done(job, written[row])
    return [job is not None for job in slots]
