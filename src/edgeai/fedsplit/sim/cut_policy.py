"""What chooses every client's cut before each round, and what a round with a cut should take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.cut_parts import CutParts, LocalTraining
from edgeai.fedsplit.advise.load import Load, load_of
from edgeai.fedsplit.advise.round_time import MeanLink, Times, times_of
from edgeai.fedsplit.config.hybrid import SplitFedV2Config
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.world.world import SERVER


class CutPolicy(ABC):
    """Chooses every client's cut before each round.

    Args:
        cfg: Of the run.
        setup: Model, world and sample counts.
    """

    def __init__(self, cfg: SimConfig, setup: Setup) -> None:
        self.cfg, self.setup = cfg, setup
        self.choices = legal_cuts(cfg, setup)
        """Positions to choose from."""
        self.positions = setup.positions
        """Of the round that was chosen for last."""

    @abstractmethod
    def choose(self, number: int) -> tuple[int, ...]:
        """Each client's cut in a round."""

    @abstractmethod
    def learn(self, rnd: Round, ledger: Ledger) -> None:
        """Looks at a round that has ended."""

    def set_cuts(self, method: Method, number: int) -> None:
        """Chooses for a round, and tells the method."""
        self.positions = self.choose(number)
        method.setup = replace(method.setup, positions=self.positions)

    def observe(self, rnd: Round, ledger: Ledger) -> None:
        """Looks at a round that has ended, and notes how deep the cuts were."""
        rnd.notes["mean_cut"] = sum(self.positions) / len(self.positions)
        self.learn(rnd, ledger)

    def state(self) -> dict[str, Any]:
        """What the next choice depends on, as plain values."""
        return {"positions": list(self.positions), **self.memory()}

    def restore(self, method: Method, state: dict[str, Any]) -> None:
        """Goes on from a state, with the cuts of the last round."""
        self.positions = tuple(state["positions"])
        method.setup = replace(method.setup, positions=self.positions)
        self.remember(state)

    @abstractmethod
    def memory(self) -> dict[str, Any]:
        """What it has learnt."""

    @abstractmethod
    def remember(self, state: dict[str, Any]) -> None:
        """Puts back what `memory` gave."""

    def expected(self, client: int, position: int, link: MeanLink) -> tuple[Load, Times]:
        """What a client moves and computes in a round with a cut there, and how long that takes."""
        model, world, cfg = self.setup.model, self.setup.world, self.cfg
        parts = CutParts(model.names[position - 1], position, model.cost(0, position), model.cost(position, len(model)))
        num_active = world.participation.per_round or cfg.num_clients
        how = LocalTraining(self.setup.num_samples[client], cfg.local_epochs, cfg.batch, cfg.codec, num_active)
        load = load_of(SplitFedV2Config(), parts, how)
        times = times_of(load, world.device(client), link, world.device(SERVER))
        in_lane = max(1.0, num_active / world.lanes)  # clients that share one
        return load, replace(times, server_s=times.server_s * in_lane)


def legal_cuts(cfg: SimConfig, setup: Setup) -> tuple[int, ...]:
    """Positions that leave both sides a layer, and that the codec fits.

    Raises:
        UsageError: There is none.
    """
    fitting, misfit = [], None
    for position in range(1, len(setup.model)):
        try:
            check_codec(cfg.codec, setup.model.shape_at(position))
            fitting.append(position)
        except UsageError as error:
            misfit = error
    if not fitting:
        raise misfit or UsageError("a model of one layer cannot be cut", hint="use a model with more layers")
    return tuple(fitting)
