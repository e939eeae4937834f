"""Virtual time as data flow: everything starts when its inputs are there and what it runs on is free.

Each client's processor, each direction of its link and each lane of the server serves its jobs in the order in which
they are handed in, one at a time. Nothing waits for a tick, so a method only passes times on:

    z_s = clock.work(k, flops, at_s)  →  there_s = clock.send(k, "up", num_bytes, z_s)  →  clock.work(SERVER, ...)

Links are made anew in each round from (seed, round, client), full buckets and all, so that a run that is resumed at a
round sees the same jitter and loss; outages and traces go by the time of day. Energy is charged when the round ends: a
device that took part draws its idle power throughout, and on top what each activity draws above that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.random import SeedSequence

from edgeai.core.link import Direction, Link
from edgeai.fedsplit.config.world import DeviceConfig
from edgeai.fedsplit.sim.world import SERVER, World

MAX_SPANS = 20_000
"""Spans remembered of one round. Time, energy and their sums go on beyond."""

What = Literal["compute", "up", "down"]


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a Gantt chart.

    Args:
        who: Client, or SERVER.
        what: What it was busy with. "up" and "down" last from the first byte sent to the last one there.
        label: In the words of the method.
        begin_s: Start.
        end_s: End.
        lane: Of the server.
    """

    who: int
    what: What
    label: str
    begin_s: float
    end_s: float
    lane: int = 0


@dataclass(frozen=True)
class Use:
    """How long one party was busy, and what that drew. Of the server: all lanes together.

    Args:
        compute_s: It computed.
        tx_s: It had bytes on the line.
        rx_s: The other end of its line had.
        energy_j: Of all this and of waiting.
    """

    compute_s: float = 0.0
    tx_s: float = 0.0
    rx_s: float = 0.0
    energy_j: float = 0.0

    def plus(self, other: Use) -> Use:
        return Use(
            self.compute_s + other.compute_s,
            self.tx_s + other.tx_s,
            self.rx_s + other.rx_s,
            self.energy_j + other.energy_j,
        )


@dataclass(frozen=True)
class RoundUse:
    """What a round took.

    Args:
        round: Its number.
        begin_s: Start.
        end_s: End.
        clients: Those that computed, sent or received, by number.
        server: All lanes.
        num_spans: Jobs of the round, those not remembered included.
    """

    round: int
    begin_s: float
    end_s: float
    clients: dict[int, Use]
    server: Use
    num_spans: int

    @property
    def energy_j(self) -> float:
        """Of clients and server."""
        return self.server.energy_j + sum(use.energy_j for use in self.clients.values())


class _Queue:
    """Jobs of one processor or one direction of a link, one after the other."""

    __slots__ = ("busy", "flops_per_s", "free_s")

    def __init__(self, flops_per_s: float = 0.0) -> None:
        self.flops_per_s = flops_per_s
        self.free_s = 0.0
        self.busy: list[tuple[float, float]] = []  # of this round, rising and apart

    def add(self, begin_s: float, end_s: float) -> None:
        if self.busy and self.busy[-1][1] == begin_s:
            begin_s = self.busy.pop()[0]
        self.busy.append((begin_s, end_s))
        self.free_s = end_s

    def settle(self, until_s: float) -> float:
        """Returns for how long it was busy, and keeps what is still to come."""
        total_s = 0.0
        for begin_s, end_s in self.busy:
            total_s += max(0.0, min(end_s, until_s) - begin_s)
        self.busy = [(max(begin_s, until_s), end_s) for begin_s, end_s in self.busy if end_s > until_s]
        return total_s


class Clock:
    """Virtual time of one run.

    Args:
        world: Devices and links.
        seed: Of jitter and loss.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._seed = world, seed
        self.now_s = 0.0
        self.round = 0
        self.totals: dict[int, Use] = {}
        """Use of each client that took part so far, and of the server, over the rounds that have ended."""
        self._begin_s = 0.0
        self._is_open = False
        self._processors: dict[tuple[int, int], _Queue] = {}
        self._lines: dict[tuple[int, Direction], _Queue] = {}
        self._links: dict[int, Link] = {}
        self._started: set[int] = set()
        self._spans: list[tuple[int, What, str, float, float, int]] = []
        self._num_spans = 0

    @property
    def spans(self) -> list[Span]:
        """The jobs of the current or the last round, in the order in which they were handed in, 20,000 at most."""
        return [Span(*span) for span in self._spans]

    def begin_round(self, number: int, *, carry_over: bool = False) -> None:
        """Starts a round now.

        Args:
            number: Chooses the round's jitter and loss.
            carry_over: What lasts beyond the end of the last round goes on and occupies what it runs on, as in
                asynchronous methods. Otherwise it was given up at that end.
        """
        if self._is_open:
            raise ValueError(f"round {self.round} has not ended")
        self.round, self._begin_s, self._is_open = number, self.now_s, True
        self._links.clear()
        self._started.clear()
        self._spans.clear()
        self._num_spans = 0
        if not carry_over:
            self._processors.clear()
            self._lines.clear()

    def work(self, who: int, flops: float, at_s: float, label: str = "", lane: int | None = 0) -> float:
        """Computes.

        Args:
            who: Client, or SERVER.
            flops: How much; 0 takes no time and does not queue.
            at_s: Its inputs are there.
            label: For the Gantt chart.
            lane: Of the server; None takes the one that is free first.

        Returns:
            When it is done.
        """
        if not flops:
            return at_s
        if lane is None:
            lane = self._first_free_lane()
        queue = self._processors.get((who, lane)) or self._open_processor(who, lane)
        return self._busy(queue, (who, lane), flops / queue.flops_per_s, at_s, label)

    def start(self, client: int, at_s: float) -> float:
        """Starts a device that is asked for the first time in a round; returns when it is ready."""
        start_s = self._world.device(client).start_s
        if not start_s or client in self._started:
            return at_s
        self._started.add(client)
        queue = self._processors.get((client, 0)) or self._open_processor(client, 0)
        return self._busy(queue, (client, 0), start_s, at_s, "start")

    def send(self, client: int, direction: Direction, num_bytes: int, at_s: float, label: str = "") -> float:
        """Sends a message over a client's link, or with SERVER between servers.

        Args:
            client: Whose link.
            direction: "up" is towards the server.
            num_bytes: How much; 0 takes no time and does not queue.
            at_s: The message is ready.
            label: For the Gantt chart.

        Returns:
            When it is there.
        """
        if not num_bytes:
            return at_s
        queue = self._lines.get((client, direction))
        if queue is None:
            queue = self._lines[client, direction] = _Queue()
        link = self._links.get(client) or self._open_link(client)
        sent = link.transfer(direction, num_bytes, max(at_s, queue.free_s))
        queue.add(sent.begin_s, sent.sent_s)
        self._remember((client, direction, label, sent.begin_s, sent.end_s, 0))
        return sent.end_s

    def free_s(self, who: int, lane: int = 0) -> float:
        """Returns when a processor has done all it was given, or the time now if that is later."""
        queue = self._processors.get((who, lane))
        return max(self.now_s, queue.free_s) if queue else self.now_s

    def advance(self, to_s: float) -> None:
        """Moves the time on; never back."""
        self.now_s = max(self.now_s, to_s)

    def end_round(self, at_s: float) -> RoundUse:
        """Ends the round, not before the time now, and charges busy times and energy up to then."""
        if not self._is_open:
            raise ValueError("no round has begun")
        self.advance(at_s)
        self._is_open = False
        times: dict[int, list[float]] = {SERVER: [0.0, 0.0, 0.0]}  # computing, sending, receiving
        for (who, _), queue in self._processors.items():
            times.setdefault(who, [0.0, 0.0, 0.0])[0] += queue.settle(self.now_s)
        for (who, direction), queue in self._lines.items():
            busy_s, is_up = queue.settle(self.now_s), direction == "up"
            times.setdefault(who, [0.0, 0.0, 0.0])[1 if is_up else 2] += busy_s
            if who != SERVER:
                times[SERVER][2 if is_up else 1] += busy_s
        uses = {who: self._charge(who, *busy) for who, busy in sorted(times.items())}
        for who, use in uses.items():
            self.totals[who] = self.totals.get(who, Use()).plus(use)
        server = uses.pop(SERVER)
        return RoundUse(self.round, self._begin_s, self.now_s, uses, server, self._num_spans)

    def state(self) -> dict[str, Any]:
        """Returns what the next round depends on, as plain numbers and lists. Only between rounds.

        Raises:
            ValueError: A round is going on: a run is resumed at the start of a round.
        """
        if self._is_open:
            raise ValueError(f"round {self.round} has not ended")
        return {
            "now_s": self.now_s,
            "round": self.round,
            "totals": [[who, u.compute_s, u.tx_s, u.rx_s, u.energy_j] for who, u in self.totals.items()],
            "processors": [[*key, q.flops_per_s, q.free_s, _flat(q.busy)] for key, q in self._processors.items()],
            "lines": [[*key, q.free_s, _flat(q.busy)] for key, q in self._lines.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state; the same world and seed are up to the caller."""
        self.now_s, self.round, self._is_open = state["now_s"], state["round"], False
        self.totals = {who: Use(*times) for who, *times in state["totals"]}
        self._processors = {
            (who, lane): _restored(flops_per_s, free_s, busy)
            for who, lane, flops_per_s, free_s, busy in state["processors"]
        }
        self._lines = {(who, way): _restored(0.0, free_s, busy) for who, way, free_s, busy in state["lines"]}
        self._links.clear()
        self._spans.clear()
        self._num_spans = 0

    def _busy(self, queue: _Queue, where: tuple[int, int], lasts_s: float, at_s: float, label: str) -> float:
        begin_s = max(at_s, queue.free_s)
        end_s = begin_s + lasts_s
        queue.add(begin_s, end_s)
        self._remember((where[0], "compute", label, begin_s, end_s, where[1]))
        return end_s

    def _remember(self, span: tuple[int, What, str, float, float, int]) -> None:
        self._num_spans += 1
        if self._num_spans <= MAX_SPANS:
            self._spans.append(span)

    def _first_free_lane(self) -> int:
        free_s = [(q.free_s if (q := self._processors.get((SERVER, n))) else 0.0) for n in range(self._world.lanes)]
        return free_s.index(min(free_s))

    def _open_processor(self, who: int, lane: int) -> _Queue:
        num_lanes = self._world.lanes if who == SERVER else 1
        if not 0 <= lane < num_lanes:
            raise ValueError(f"lane {lane} of {num_lanes}")
        queue = self._processors[who, lane] = _Queue(self._world.device(who).flops_per_s)
        return queue

    def _open_link(self, client: int) -> Link:
        seed = SeedSequence((self._seed, self.round, client + 1)).generate_state(2)
        link = self._links[client] = Link(self._world.link_config(client), (int(seed[0]) << 32) + int(seed[1]))
        return link

    def _charge(self, who: int, compute_s: float, tx_s: float, rx_s: float) -> Use:
        num_devices = self._world.lanes if who == SERVER else 1
        idle_j = num_devices * self._world.device(who).idle_w * (self.now_s - self._begin_s)
        use = Use(compute_s, tx_s, rx_s)
        return replace(use, energy_j=idle_j + _above_idle_j(self._world.device(who), use))


def _above_idle_j(device: DeviceConfig, use: Use) -> float:
    return (
        (device.compute_w - device.idle_w) * use.compute_s
        + (device.tx_w - device.idle_w) * use.tx_s
        + (device.rx_w - device.idle_w) * use.rx_s
    )


def _flat(busy: Sequence[tuple[float, float]]) -> list[float]:
    return [time_s for interval in busy for time_s in interval]


def _restored(flops_per_s: float, free_s: float, busy: Sequence[float]) -> _Queue:
    queue = _Queue(flops_per_s)
    queue.free_s, queue.busy = free_s, list(zip(busy[::2], busy[1::2], strict=True))
    return queue
