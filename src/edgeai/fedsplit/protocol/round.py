"""One round as a method sees it: requests to devices, server work, training loss, and which replies count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from edgeai.core.link import Direction
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.message import EMPTY, Message
from edgeai.fedsplit.protocol.transport import Reply, Request, Transport
from edgeai.fedsplit.world.clock import Clock
from edgeai.fedsplit.world.usage import RoundUsage
from edgeai.fedsplit.world.world import SERVER


class LossMean:
    """Mean training loss over the samples of a round."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._sum: Tensor | float = 0.0

    def add(self, mean: Tensor | float, num_samples: int) -> None:
        """Add the mean loss of `num_samples` samples."""
        self._sum = self._sum + mean * num_samples
        self.num_samples += num_samples

    @property
    def mean(self) -> float:
        """Mean over all added samples; NaN if there are none."""
        return float(self._sum) / self.num_samples if self.num_samples else float("nan")


class RoundServer:
    """The server's computing, memory and server-to-server traffic in one round.

    Args:
        number: Number of the round.
        clock: Virtual clock.
        ledger: Byte ledger.

    Attributes:
        end_s: Virtual time at which the round ends, as far as known.
        peak_bytes: Peak memory of the server.
    """

    def __init__(self, number: int, clock: Clock, ledger: Ledger) -> None:
        self._number, self._clock, self._ledger = number, clock, ledger
        self.begin_s = self.end_s = clock.now_s
        self.peak_bytes = 0

    def work(self, flops: float, at_s: float, *, lane: int = 0, label: str = "server") -> float:
        """Compute `flops` from `at_s` on, or once the lane is free; return the end time."""
        end_s = self._clock.work(SERVER, flops, at_s, label, lane)
        self.extend(end_s)
        return end_s

    def extend(self, at_s: float) -> None:
        """Let the round last at least until `at_s`."""
        self.end_s = max(self.end_s, at_s)

    def pass_on(
        self, message: Message, client: int = SERVER, *, at_s: float = 0.0, direction: Direction = "down"
    ) -> float:
        """Charge and time a message that is sent outside the exchange with a device.

        Args:
            message: Message in wire form.
            client: Client whose link it uses, or SERVER for the link between servers.
            at_s: Time at which the message is ready.
            direction: "down" is towards the devices.

        Returns:
            Arrival time.
        """
        num_bytes = self._ledger.charge(self._number, client, direction, message)
        return self._clock.send(client, direction, num_bytes, at_s, direction)

    def hold(self, num_bytes: int) -> None:
        """Record that the server holds `num_bytes` at the same time."""
        self.peak_bytes = max(self.peak_bytes, num_bytes)


@dataclass(frozen=True)
class Cutoff:
    """Which replies of a round count.

    Args:
        num_wanted: Number of delivered clients at which the round ends.
        limit_s: Virtual time of the deadline; infinite without one.
        lost: Clients whose final reply never arrives.
    """

    num_wanted: int
    limit_s: float = float("inf")
    lost: frozenset[int] = frozenset()

    def counted(self, replies: Mapping[int, Reply]) -> list[tuple[float, int]]:
        """Return (arrival time, client) of the replies that count, in order of arrival."""
        arrived = sorted((reply.at_s, client) for client, reply in replies.items() if client not in self.lost)
        return [(at_s, client) for at_s, client in arrived if at_s <= self.limit_s][: self.num_wanted]


class Round:
    """One round of training.

    Args:
        number: Number of the round, from 1.
        clients: Participating clients, in order.
        transport: Transport to the devices.
        server: The server's share of the round.
        cutoff: Which replies count; None counts all.

    Attributes:
        loss: Mean training loss.
        late: Clients whose reply did not count.
        notes: Figures that the method adds to the metrics.
        usage: Time and energy, set when the round has ended.
    """

    def __init__(
        self,
        number: int,
        clients: Sequence[int],
        transport: Transport,
        server: RoundServer,
        cutoff: Cutoff | None = None,
    ) -> None:
        self.number, self.clients = number, tuple(clients)
        self.server = server
        self.cutoff = cutoff or Cutoff(len(self.clients))
        self.begin_s = server.begin_s
        self.loss = LossMean()
        self.late: set[int] = set()
        self.notes: dict[str, float] = {}
        self.usage: RoundUsage | None = None
        self._transport = transport

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """Send requests that have several replies each; see `Transport.stream`."""
        return self._transport.stream(op, requests)

    def ask(self, op: str, requests: Mapping[int, Request]) -> dict[int, Reply]:
        """Send requests and return the reply of each client, without those that sent none."""
        replies = {}
        for client, answers in self._transport.stream(op, requests).items():
            for reply in answers:
                replies[client] = reply
        return replies

    def ask_one(self, client: int, op: str, message: Message = EMPTY, at_s: float | None = None) -> Reply:
        """Send a request to one client and return its reply."""
        return self.ask(op, {client: Request(message, self.begin_s if at_s is None else at_s)})[client]

    def tell(self, op: str, requests: Mapping[int, Request]) -> dict[int, float]:
        """Send messages that have no reply; return the arrival time at each client."""
        return {client: reply.client_s for client, reply in self.ask(op, requests).items()}

    def accept(self, replies: Mapping[int, Reply]) -> dict[int, Reply]:
        """Return the replies that count, and set the end of the round.

        A reply counts if its client is not lost, it arrived before the deadline, and it is among the first
        `cutoff.num_wanted`. The round ends with the last reply that counts, or at the deadline if one is missing.

        Args:
            replies: Final replies by client.

        Returns:
            The replies that count, in the given order.
        """
        counted = self.cutoff.counted(replies)
        kept = {client for _, client in counted}
        self.late |= set(replies) - kept
        last_s = max((at_s for at_s, _ in counted), default=self.begin_s)
        if len(kept) == len(replies):
            self.server.extend(last_s)
        elif len(kept) == self.cutoff.num_wanted:
            self.server.end_s = last_s
        elif self.cutoff.limit_s < float("inf"):
            self.server.end_s = self.cutoff.limit_s
        else:  # a lost client is noticed when its reply is due
            self.server.end_s = max([last_s, *(reply.at_s for reply in replies.values())])
        return {client: reply for client, reply in replies.items() if client in kept}
