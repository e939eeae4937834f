"""Virtual time as data flow: a job starts when its inputs have arrived and its processor or link is free.

Each client's processor, each direction of its link and each lane of the server runs its jobs in the order in which they
are submitted, one at a time. There are no ticks; a method only passes times on:

    z_s = clock.work(k, flops, at_s)  →  there_s = clock.send(k, "up", num_bytes, z_s)  →  clock.work(SERVER, ...)

Links are created anew in each round from (seed, round, client), with full token buckets, so that a run resumed at a
round sees the same jitter and loss; outages and traces follow the time of day. Energy is charged when the round ends: a
participating device draws its idle power throughout, and each activity adds its power above idle.
"""

from __future__ import annotations

from typing import Any

from numpy.random import SeedSequence

from edgeai.core.link import Direction, Link
from edgeai.fedsplit.world.job_queue import JobQueue
from edgeai.fedsplit.world.usage import Activity, BusyTimes, RoundUsage, Span, Usage
from edgeai.fedsplit.world.world import SERVER, World

MAX_SPANS = 20_000
"""Spans recorded per round. Times and energy count all jobs."""


class Clock:
    """Virtual time of one run.

    Args:
        world: Devices and links.
        seed: Seed of jitter and loss.

    Attributes:
        totals: Usage of each client that has taken part, and of the server, over the rounds that have ended.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._seed = world, seed
        self.now_s = 0.0
        self.round = 0
        self.totals: dict[int, Usage] = {}
        self._begin_s = 0.0
        self._is_open = False
        self._processors: dict[tuple[int, int], JobQueue] = {}  # by (who, lane)
        self._lines: dict[tuple[int, Direction], JobQueue] = {}  # by (client, direction)
        self._links: dict[int, Link] = {}
        self._started: set[int] = set()
        self._spans: list[tuple[int, Activity, str, float, float, int]] = []
        self._num_spans = 0

    @property
    def spans(self) -> list[Span]:
        """Jobs of the current or the last round in order of submission, at most `MAX_SPANS`."""
        return [Span(*span) for span in self._spans]

    def begin_round(self, number: int, *, carry_over: bool = False) -> None:
        """Start a round now.

        Args:
            number: Number of the round; seeds its jitter and loss.
            carry_over: Whether jobs that outlast the previous round continue and stay on their processors and links, as
                in asynchronous methods. Otherwise they were abandoned at its end.
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
        """Submit a computing job.

        Args:
            who: Number of the client, or SERVER.
            flops: FLOPs of the job. 0 takes no time and does not queue.
            at_s: Time at which its inputs are available.
            label: Label in the Gantt chart.
            lane: Lane of the server; None takes the lane that is free first.

        Returns:
            End time of the job.
        """
        if not flops:
            return at_s
        if lane is None:
            lane = self._first_free_lane()
        queue = self._processor(who, lane)
        return self._run(queue, who, lane, flops / queue.flops_per_s, at_s, label)

    def start(self, client: int, at_s: float) -> float:
        """Start a device on its first request of a round; return the time at which it is ready."""
        start_s = self._world.device(client).start_s
        if not start_s or client in self._started:
            return at_s
        self._started.add(client)
        return self._run(self._processor(client, 0), client, 0, start_s, at_s, "start")

    def send(self, client: int, direction: Direction, num_bytes: int, at_s: float, label: str = "") -> float:
        """Submit a transfer over a client's link, or over the link between servers for SERVER.

        Args:
            client: Client whose link is used.
            direction: "up" is towards the server.
            num_bytes: Size of the transfer. 0 takes no time and does not queue.
            at_s: Time at which the message is ready.
            label: Label in the Gantt chart.

        Returns:
            Arrival time.
        """
        if not num_bytes:
            return at_s
        queue = self._lines.get((client, direction))
        if queue is None:
            queue = self._lines[client, direction] = JobQueue()
        link = self._links.get(client) or self._open_link(client)
        sent = link.transfer(direction, num_bytes, max(at_s, queue.free_s))
        queue.add(sent.begin_s, sent.sent_s)
        self._record((client, direction, label, sent.begin_s, sent.end_s, 0))
        return sent.end_s

    def free_s(self, who: int, lane: int = 0) -> float:
        """Return the end of the last job on a processor, or the current time if that is later."""
        queue = self._processors.get((who, lane))
        return max(self.now_s, queue.free_s) if queue else self.now_s

    def advance(self, to_s: float) -> None:
        """Advance the time to `to_s`; never move it back."""
        self.now_s = max(self.now_s, to_s)

    def end_round(self, at_s: float) -> RoundUsage:
        """End the round at `at_s`, or now if that is later; charge busy times and energy up to then."""
        if not self._is_open:
            raise ValueError("no round has begun")
        self.advance(at_s)
        self._is_open = False
        usages = {
            who: times.charged(
                self._world.device(who), self._world.lanes if who == SERVER else 1, self.now_s - self._begin_s
            )
            for who, times in sorted(self._busy_times().items())
        }
        for who, usage in usages.items():
            self.totals[who] = self.totals.get(who, Usage()).plus(usage)
        server = usages.pop(SERVER)
        return RoundUsage(self.round, self._begin_s, self.now_s, usages, server, self._num_spans)

    def state(self) -> dict[str, Any]:
        """Return the state that the next round depends on, as plain numbers and lists.

        Raises:
            ValueError: A round is in progress. A run is resumed at the start of a round.
        """
        if self._is_open:
            raise ValueError(f"round {self.round} has not ended")
        return {
            "now_s": self.now_s,
            "round": self.round,
            "totals": [[who, u.compute_s, u.tx_s, u.rx_s, u.energy_j] for who, u in self.totals.items()],
            "processors": [[*key, queue.flops_per_s, *queue.state()] for key, queue in self._processors.items()],
            "lines": [[*key, *queue.state()] for key, queue in self._lines.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state. World and seed must be those of the saved run."""
        self.now_s, self.round, self._is_open = state["now_s"], state["round"], False
        self.totals = {who: Usage(*times) for who, *times in state["totals"]}
        self._processors = {(who, lane): JobQueue.restored(*queue) for who, lane, *queue in state["processors"]}
        self._lines = {(who, way): JobQueue.restored(0.0, *queue) for who, way, *queue in state["lines"]}
        self._links.clear()
        self._spans.clear()
        self._num_spans = 0

    def _busy_times(self) -> dict[int, BusyTimes]:
        """Settle all queues up to now; return the busy times by party, the server's included."""
        times = {SERVER: BusyTimes()}
        for (who, _), queue in self._processors.items():
            times.setdefault(who, BusyTimes()).compute_s += queue.settle(self.now_s)
        for (who, direction), queue in self._lines.items():
            busy_s, is_up = queue.settle(self.now_s), direction == "up"
            times.setdefault(who, BusyTimes()).transfer(busy_s, is_sender=is_up)
            if who != SERVER:
                times[SERVER].transfer(busy_s, is_sender=not is_up)
        return times

    def _run(self, queue: JobQueue, who: int, lane: int, duration_s: float, at_s: float, label: str) -> float:
        begin_s = max(at_s, queue.free_s)
        end_s = begin_s + duration_s
        queue.add(begin_s, end_s)
        self._record((who, "compute", label, begin_s, end_s, lane))
        return end_s

    def _record(self, span: tuple[int, Activity, str, float, float, int]) -> None:
        self._num_spans += 1
        if self._num_spans <= MAX_SPANS:
            self._spans.append(span)

    def _first_free_lane(self) -> int:
        free_s = [(q.free_s if (q := self._processors.get((SERVER, n))) else 0.0) for n in range(self._world.lanes)]
        return free_s.index(min(free_s))

    def _processor(self, who: int, lane: int) -> JobQueue:
        queue = self._processors.get((who, lane))
        if queue is None:
            num_lanes = self._world.lanes if who == SERVER else 1
            if not 0 <= lane < num_lanes:
                raise ValueError(f"lane {lane} of {num_lanes}")
            queue = self._processors[who, lane] = JobQueue(self._world.device(who).flops_per_s)
        return queue

    def _open_link(self, client: int) -> Link:
        seed = SeedSequence((self._seed, self.round, client + 1)).generate_state(2)
        link = self._links[client] = Link(self._world.link_config(client), (int(seed[0]) << 32) + int(seed[1]))
        return link
