"""The optimizer steps of a training run: which conversations each of them trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.train_batch import pack_in_order

_SORT_WINDOW = 256  # sorting by length within windows keeps padding low and batches still random


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    batches: list[list[int]]
    """Conversations of each micro-batch."""
    epoch: int
    is_gto: bool = False

    @property
    def numbers(self) -> list[int]:
        """Conversations of all micro-batches."""
        return [number for batch in self.batches for number in batch]


def plan_steps(cfg: TrainConfig, conversations: Sequence[Conversation]) -> list[Step]:
    """Return all steps of a run: those of the token phase, then those of GTO.

    Raises:
        UsageError: There are fewer micro-batches than one step needs.
    """
    accum, steps = cfg.optim.grad_accum, list[Step]()
    num_token_epochs = 0 if cfg.phase == "gto" else cfg.epochs
    for epoch in range(num_token_epochs + (0 if cfg.phase == "tokens" else cfg.gto.epochs)):
        batches = epoch_batches(conversations, cfg.optim.batch_tokens, cfg.seed, epoch)
        if len(batches) < accum:
            raise UsageError(
                f"{len(batches)} micro-batches an epoch do not fill optim.grad_accum {accum}",
                hint="lower optim.grad_accum or optim.batch_tokens, or give more data",
            )
        is_gto = epoch >= num_token_epochs
        steps += [Step(batches[i : i + accum], epoch, is_gto) for i in range(0, len(batches) - accum + 1, accum)]
    phases = ([step for step in steps if step.is_gto == is_gto] for is_gto in (False, True))
    return [step for phase in phases for step in phase[: cfg.max_steps]]


def epoch_batches(conversations: Sequence[Conversation], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the micro-batches of one epoch: shuffled, similar lengths together, in shuffled order."""
    rng = np.random.default_rng((seed, 2, epoch))
    order = rng.permutation(len(conversations))
    order = np.concatenate(
        [
            sorted(order[i : i + _SORT_WINDOW], key=lambda n: len(conversations[n].ids))
            for i in range(0, len(order), _SORT_WINDOW)
        ]
    )
    batches = pack_in_order(conversations, order.tolist(), batch_tokens)
    return [batches[i] for i in rng.permutation(len(batches))]
