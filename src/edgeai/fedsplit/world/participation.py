"""Participation: which clients are available, selected and lost in each round.

Every draw is seeded by (seed, purpose, round), never by a generator that advances, so that a resumed run repeats it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeai.fedsplit.config.world import BernoulliConfig, MarkovConfig, ParticipationConfig

_AVAILABLE, _COHORT, _DROPS = 2, 3, 4  # purposes of the draws; 0 and 1 are those of world.py


@dataclass(frozen=True)
class Cohort:
    """The clients of one round.

    Args:
        round: Number of the round.
        selected: Clients started in this round, in ascending order.
        unavailable: Clients that cannot be started in this round, in ascending order.
        num_wanted: Number of selected clients that the round waits for.
        drops: Selected clients whose final reply never arrives.
    """

    round: int
    selected: tuple[int, ...]
    unavailable: tuple[int, ...]
    num_wanted: int
    drops: frozenset[int]


class CohortSampler:
    """Draws the cohort of each round.

    Args:
        cfg: Availability, cohort size, over-selection and drop rate.
        num_clients: Number of all clients.
        seed: Seed of the run.
    """

    def __init__(self, cfg: ParticipationConfig, num_clients: int, seed: int) -> None:
        self._cfg, self._num_clients, self._seed = cfg, num_clients, seed
        self._chain: tuple[int, np.ndarray] | None = None  # last simulated round of the Markov chains, and its states

    def cohort(self, round_number: int) -> Cohort:
        """Draw the cohort of a round. It may be empty."""
        available_mask = self._available(round_number)
        available = np.flatnonzero(available_mask)
        wanted = self._cfg.per_round or len(available)
        num_started = min(len(available), math.ceil(wanted * self._cfg.over_select))
        picked = available
        if num_started < len(available):
            random = np.random.default_rng((self._seed, _COHORT, round_number))
            picked = np.sort(random.choice(available, num_started, replace=False))
        return Cohort(
            round=round_number,
            selected=tuple(picked.tolist()),
            unavailable=tuple(np.flatnonzero(~available_mask).tolist()),
            num_wanted=min(wanted, num_started),
            drops=self._drops(picked, round_number),
        )

    def _drops(self, picked: np.ndarray, round_number: int) -> frozenset[int]:
        if not self._cfg.drop_frac:
            return frozenset()
        draws = np.random.default_rng((self._seed, _DROPS, round_number)).random(self._num_clients)
        return frozenset(int(k) for k in picked if draws[k] < self._cfg.drop_frac)

    def _available(self, round_number: int) -> np.ndarray:
        """Return a mask of the available clients."""
        model = self._cfg.availability
        if isinstance(model, BernoulliConfig):
            return self._uniform(round_number) < model.p
        if isinstance(model, MarkovConfig):
            return self._markov_states(model, round_number)
        return np.ones(self._num_clients, dtype=bool)

    def _markov_states(self, model: MarkovConfig, round_number: int) -> np.ndarray:
        """Simulate every client's chain from round 0, where it starts in the stationary distribution."""
        if self._chain is None or self._chain[0] > round_number:
            self._chain = (0, self._uniform(0) < model.p_return / (model.p_drop + model.p_return))
        at, available_mask = self._chain
        for number in range(at + 1, round_number + 1):
            draws = self._uniform(number)
            available_mask = np.where(available_mask, draws >= model.p_drop, draws < model.p_return)
        self._chain = (round_number, available_mask)
        return available_mask

    def _uniform(self, round_number: int) -> np.ndarray:
        return np.random.default_rng((self._seed, _AVAILABLE, round_number)).random(self._num_clients)
