"""Interface of policies that choose every client's cut before each round, with expected cost per cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.client_cost import Load, load_of
from edgeai.fedsplit.advise.cut_parts import CutParts, LocalTraining
from edgeai.fedsplit.advise.round_time import MeanLink, Times, times_of
from edgeai.fedsplit.config.hybrid import SplitFedV2Config
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.codec.sizes import check_codec
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.world.world import SERVER


class ExpectedRound(NamedTuple):
    """Expected cost of one client's round."""

    load: Load
    times: Times


class CutPolicy(ABC):
    """Chooses every client's cut before each round.

    Args:
        cfg: Config of the run.
        setup: Model, world and sample counts.
    """

    def __init__(self, cfg: SimConfig, setup: Setup) -> None:
        self.cfg, self.setup = cfg, setup
        self.choices = legal_cuts(cfg, setup)
        """Legal cut positions."""
        self.positions = setup.positions
        """Cut positions of the latest round."""

    @abstractmethod
    def choose(self, number: int) -> tuple[int, ...]:
        """Return each client's cut position for a round."""

    @abstractmethod
    def learn(self, rnd: Round, ledger: Ledger) -> None:
        """Update the policy from a finished round."""

    def set_cuts(self, method: Method, number: int) -> None:
        """Choose the cuts of a round and set them in the method."""
        self.positions = self.choose(number)
        method.setup = replace(method.setup, positions=self.positions)

    def observe(self, rnd: Round, ledger: Ledger) -> None:
        """Update the policy from a finished round, and add the mean cut position to its notes."""
        rnd.notes["mean_cut"] = sum(self.positions) / len(self.positions)
        self.learn(rnd, ledger)

    def state(self) -> dict[str, Any]:
        """Return the state that the next choice depends on, as plain values."""
        return {"positions": list(self.positions), **self.memory()}

    def restore(self, method: Method, state: dict[str, Any]) -> None:
        """Restore what `state` returned, and set the cuts of the last round in the method."""
        self.positions = tuple(state["positions"])
        method.setup = replace(method.setup, positions=self.positions)
        self.remember(state)

    @abstractmethod
    def memory(self) -> dict[str, Any]:
        """Return the learned state."""

    @abstractmethod
    def remember(self, state: dict[str, Any]) -> None:
        """Restore what `memory` returned."""

    def expected(self, client: int, position: int, link: MeanLink) -> ExpectedRound:
        """Return the expected traffic, computing and times of a client's round with a cut at `position`."""
        model, world, cfg = self.setup.model, self.setup.world, self.cfg
        parts = CutParts(model.names[position - 1], position, model.cost(0, position), model.cost(position, len(model)))
        num_active = world.participation.per_round or cfg.num_clients
        how = LocalTraining(self.setup.num_samples[client], cfg.local_epochs, cfg.batch, cfg.codec, num_active)
        load = load_of(SplitFedV2Config(), parts, how)
        times = times_of(load, world.device(client), link, world.device(SERVER))
        in_lane = max(1.0, num_active / world.lanes)  # clients that share a lane
        return ExpectedRound(load, replace(times, server_s=times.server_s * in_lane))


def legal_cuts(cfg: SimConfig, setup: Setup) -> tuple[int, ...]:
    """Return the positions that leave each side a layer and fit the codec.

    Raises:
        UsageError: There is no such position.
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
