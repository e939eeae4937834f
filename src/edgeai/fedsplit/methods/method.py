"""Interface of a training method, as seen by the server."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import Weights, clone
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.client_half import ClientHalf, State
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.protocol.transport import Reply

Kept = Callable[[int], State]
"""From a client's number to the state that its device keeps between rounds."""


@dataclass(frozen=True)
class Evaluated:
    """A whole model to evaluate."""

    module: nn.Module
    client: int | None = None
    """Client that owns the model, if each client has its own; the report then shows the mean over clients."""


@dataclass(frozen=True)
class Signature:
    """Kinds of data that a method moves, whatever the data set. A test checks every method against its signature."""

    activations_up: bool = False
    gradients_down: bool = False
    labels_up: bool = False
    weights_up: bool = False
    weights_down: bool = False
    activations_down: bool = False
    gradients_up: bool = False
    side_up: bool = False
    side_down: bool = False


class Method(ABC):
    """A distributed training method.

    The server's state between rounds is in `modules` (by name) and `extra`; devices keep their own state.
    """

    cfg: Any
    """Options of the method. A method with options narrows the type."""
    client_half: type[ClientHalf]
    signature: Signature
    is_split: ClassVar[bool] = True
    """Whether there is a cut; False if clients train the whole model."""
    carries_over: ClassVar[bool] = False
    """Whether jobs continue beyond the end of a round (asynchronous methods)."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cfg = setup.cfg.method
        self.global_model = setup.model.copy()
        """Current weights of all layers at the server. Client halves start from their layers of it."""

    @abstractmethod
    def round(self, rnd: Round) -> None:
        """Train for one round: `local_epochs` passes over the data of every participant."""

    def client_parts(self, client: int) -> dict[str, Part]:
        """Return new modules for one device, in a defined state (their weights arrive by message or are kept)."""
        return {"client": self.fresh_part(0, self.setup.positions[client])}

    def fresh_part(self, start: int, stop: int) -> Part:
        """Return a copy of the initial model's layers between two positions."""
        model = self.setup.model
        return Part(copy.deepcopy(model.part(start, stop)), model.cost(start, stop))

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """Return the models to test after a round.

        Args:
            kept: State that each device keeps. The simulator may read it; the method's server may not.
        """
        return (Evaluated(self.whole(self.global_model)),)

    def whole(self, model: SplitModel) -> nn.Module:
        """Return a model as used for inference: with bound and noise at the cut, if configured."""
        if self.setup.at_cut is None:
            return model.model
        first = self.setup.first
        return nn.Sequential(model.part(0, first), self.setup.at_cut, model.part(first, len(model)))

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """Return the whole model whose layers before the cut a client holds, for leakage measurements.

        Returns:
            None if there is no such cut or nothing crosses it.
        """
        return self.global_model if self.is_split else None

    def warnings(self) -> tuple[str, ...]:
        """Return caveats of this method under this config."""
        return ()

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the modules that change from round to round, by name in the saved state."""
        return {"global": self.global_model.model}

    def extra(self) -> dict[str, Any]:
        """Return the rest of the state: tensors, numbers and plain containers of them."""
        return {}

    def load_extra(self, extra: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `extra` returned."""

    def state(self) -> dict[str, Any]:
        """Return the state for resuming a run."""
        return {
            "modules": {name: clone(module.state_dict()) for name, module in self.modules().items()},
            "extra": self.extra(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, module in self.modules().items():
            module.load_state_dict(state["modules"][name])
        self.load_extra(state["extra"])


def weights_of(replies: Mapping[int, Reply]) -> list[Weights]:
    """Return the weights of replies, in order."""
    return [dict(reply.message.weights) for reply in replies.values()]
