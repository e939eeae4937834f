"""A training method as the server sees it: who takes part, what is asked of whom, and what becomes of the answers."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from edgeai.core.link import Direction
from edgeai.fedsplit.cuts.split_model import SplitModel, Weights, clone
from edgeai.fedsplit.protocol.halves import ClientHalf, Part, State, num_batches
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.transport import Reply, Request, Transport
from edgeai.fedsplit.sim.clock import Clock, RoundUse
from edgeai.fedsplit.sim.ledger import Ledger
from edgeai.fedsplit.sim.world import SERVER, World

if TYPE_CHECKING:
    from edgeai.fedsplit.config.run import SimConfig

Kept = Callable[[int], State]


@dataclass(frozen=True)
class Setup:
    """What a method is built from; the same on every backend."""

    cfg: SimConfig
    model: SplitModel
    """With its initial weights, which stay as they are: a method copies what it trains."""
    num_classes: int
    num_samples: tuple[int, ...]
    """Training samples of each client."""
    positions: tuple[int, ...]
    """Each client's cut."""
    world: World
    histograms: tuple[tuple[int, ...], ...] = ()
    """Labels of each client, for methods that group clients by them."""
    input_shapes: tuple[tuple[int, ...], ...] = ()
    """Of each client's samples, where they differ (vertical split)."""
    inputs: tuple[Tensor, ...] = ()
    """Vertical split: each client's places on the axis that is dealt out, int64."""
    labels: Tensor | None = None
    """Vertical split: of all training samples, which the server holds."""
    at_cut: nn.Module | None = None
    """What protection does to smashed data in use after training."""

    @property
    def first(self) -> int:
        """Position of the shallowest cut."""
        return min(self.positions)

    def num_batches(self, client: int) -> int:
        """Steps of a client in one round."""
        return num_batches(self.num_samples[client], self.cfg.batch, self.cfg.local_epochs)

    def shares(self, clients: Sequence[int]) -> list[float]:
        """Each client's share of their samples, n_k / n."""
        total = sum(self.num_samples[client] for client in clients)
        return [self.num_samples[client] / total for client in clients]


class Round:
    """One round: the devices that take part, the server's time, and what was seen of the loss.

    Args:
        number: From 1.
        clients: Who takes part, in order.
        transport: The way to them.
        clock: Virtual time.
        ledger: For what crosses between servers.
        wanted: The round ends when so many have delivered; None waits for all.
        deadline_s: The round ends this long after its begin; None never.
        lost: Clients that do not deliver in the end.
    """

    def __init__(
        self,
        number: int,
        clients: Sequence[int],
        transport: Transport,
        clock: Clock,
        ledger: Ledger,
        *,
        wanted: int | None = None,
        deadline_s: float | None = None,
        lost: frozenset[int] = frozenset(),
    ) -> None:
        self.number, self.clients = number, tuple(clients)
        self.begin_s = clock.now_s
        self.end_s = self.begin_s
        self.server_peak_bytes = 0
        self.late: set[int] = set()
        self.use: RoundUse | None = None
        """Time and energy, once the round has ended."""
        self.notes: dict[str, float] = {}
        """Figures that a method wants to see in the metrics."""
        self._transport, self._clock, self._ledger = transport, clock, ledger
        self.wanted = len(self.clients) if wanted is None else wanted
        self.limit_s = float("inf") if deadline_s is None else self.begin_s + deadline_s
        """The round's deadline."""
        self.lost = lost
        self.num_samples = 0
        """Those whose loss was noted."""
        self._loss_sum: Tensor | float = 0.0

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """Asks devices for something that has several answers; see `Transport.stream`."""
        return self._transport.stream(op, requests)

    def ask(self, op: str, requests: Mapping[int, Request]) -> dict[int, Reply]:
        """Asks devices for something that has one answer, or none: those are missing in what comes back."""
        replies = {}
        for client, answers in self._transport.stream(op, requests).items():
            for reply in answers:
                replies[client] = reply
        return replies

    def ask_one(self, client: int, op: str, message: Message = EMPTY, at_s: float | None = None) -> Reply:
        """Asks one device for something that has one answer."""
        return self.ask(op, {client: Request(message, self.begin_s if at_s is None else at_s)})[client]

    def tell(self, op: str, requests: Mapping[int, Request]) -> dict[int, float]:
        """Tells devices something that has no answer.

        Returns:
            When each has it, by client.
        """
        return {client: reply.client_s for client, reply in self.ask(op, requests).items()}

    def work(self, flops: float, at_s: float, *, lane: int = 0, label: str = "server") -> float:
        """The server computes; returns when it is done."""
        end_s = self._clock.work(SERVER, flops, at_s, label, lane)
        self.end_s = max(self.end_s, end_s)
        return end_s

    def pass_on(
        self, message: Message, client: int = SERVER, *, at_s: float = 0.0, direction: Direction = "down"
    ) -> float:
        """Charges what crosses between servers, or between devices by way of no server.

        Args:
            message: In wire form.
            client: Whose link, or SERVER for the one between servers.
            at_s: The message is ready.
            direction: "down" is towards the devices.

        Returns:
            When it is there.
        """
        num_bytes = self._ledger.charge(self.number, client, direction, message)
        return self._clock.send(client, direction, num_bytes, at_s, direction)

    def hold(self, num_bytes: int) -> None:
        """The server holds so much at once."""
        self.server_peak_bytes = max(self.server_peak_bytes, num_bytes)

    def loss(self, mean: Tensor | float, num_samples: int) -> None:
        """Notes the mean training loss of some samples."""
        self._loss_sum = self._loss_sum + mean * num_samples
        self.num_samples += num_samples

    @property
    def mean_loss(self) -> float:
        """Over all samples of the round; NaN where there were none."""
        return float(self._loss_sum) / self.num_samples if self.num_samples else float("nan")

    def accept(self, replies: Mapping[int, Reply]) -> dict[int, Reply]:
        """Keeps the answers that came in time: not lost, before the deadline, and only the first ones wanted.

        The round ends with the last of them, or at its deadline where someone is missing.

        Args:
            replies: By client.

        Returns:
            Of them those that count, in the given order.
        """
        arrived = sorted((reply.at_s, client) for client, reply in replies.items() if client not in self.lost)
        counted = [(at_s, client) for at_s, client in arrived if at_s <= self.limit_s][: self.wanted]
        kept = {client for _, client in counted}
        self.late |= set(replies) - kept
        last_s = max((at_s for at_s, _ in counted), default=self.begin_s)
        if len(kept) == len(replies):
            self.end_s = max(self.end_s, last_s)
        elif len(kept) == self.wanted:
            self.end_s = last_s
        elif self.limit_s < float("inf"):
            self.end_s = self.limit_s
        else:  # who is lost is noticed when it would have delivered
            self.end_s = max([last_s, *(reply.at_s for reply in replies.values())])
        return {client: reply for client, reply in replies.items() if client in kept}


@dataclass(frozen=True)
class Evaluated:
    """A whole model to evaluate."""

    module: nn.Module
    client: int | None = None
    """Whose it is, where every client has one of its own: their mean counts."""


@dataclass(frozen=True)
class Signature:
    """What a method moves, whatever the data: a test holds every method to it."""

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
    """One way to train together.

    Its state between rounds is all in `models` (by name) and `extra`; what devices keep is theirs.
    """

    cfg: Any
    """Options of the method; each method that has some narrows the type."""
    client_half: type[ClientHalf]
    signature: Signature
    is_split: ClassVar[bool] = True
    """There is a cut; false where clients train the whole model."""
    carries_over: ClassVar[bool] = False
    """Work goes on beyond the end of a round (asynchronous methods)."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.cfg = setup.cfg.method
        self.global_model = setup.model.copy()
        """The server's knowledge of all weights; a client's half starts from its part of them."""

    @abstractmethod
    def round(self, rnd: Round) -> None:
        """Trains for one round: one pass, or `local_epochs`, over every participant's data."""

    def client_parts(self, client: int) -> dict[str, Part]:
        """New modules of one device, in a defined state (weights come by message unless the device keeps them)."""
        return {"client": self.fresh_part(0, self.setup.positions[client])}

    def fresh_part(self, start: int, stop: int) -> Part:
        """Layers with weights of their own, as they are in the initial model."""
        model = self.setup.model
        return Part(copy.deepcopy(model.part(start, stop)), model.cost(start, stop))

    def evaluated(self, kept: Kept) -> Sequence[Evaluated]:
        """What is tested after a round.

        Args:
            kept: What a device keeps, by client. The simulator may look; the method's server may not.
        """
        return (Evaluated(self.whole(self.global_model)),)

    def whole(self, model: SplitModel) -> nn.Module:
        """A model as it works after training: with the bound and the noise at the cut, where there are any."""
        if self.setup.at_cut is None:
            return model.model
        first = self.setup.first
        return nn.Sequential(model.part(0, first), self.setup.at_cut, model.part(first, len(model)))

    def model_of(self, client: int, kept: Kept) -> SplitModel | None:
        """The whole model of which a client has the layers before its cut, for the leakage measurements.

        Returns:
            None where there is no such cut, or nothing crosses it.
        """
        return self.global_model if self.is_split else None

    def warnings(self) -> tuple[str, ...]:
        """What a person should know before trusting this method with this config."""
        return ()

    def modules(self) -> Mapping[str, nn.Module]:
        """What changes from round to round; saved for resuming."""
        return {"global": self.global_model.model}

    def extra(self) -> dict[str, Any]:
        """What else changes: tensors, numbers, and plain containers of them."""
        return {}

    def load_extra(self, extra: dict[str, Any]) -> None:  # noqa: B027
        """Puts back what `extra` gave."""

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "modules": {name: clone(module.state_dict()) for name, module in self.modules().items()},
            "extra": self.extra(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        for name, module in self.modules().items():
            module.load_state_dict(state["modules"][name])
        self.load_extra(state["extra"])


def weights_of(replies: Mapping[int, Reply]) -> list[Weights]:
    """The weights in answers, in order."""
    return [dict(reply.message.weights) for reply in replies.values()]
