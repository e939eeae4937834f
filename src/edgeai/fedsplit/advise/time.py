"""Seconds and joules of a round in closed form, from each client's load, device and link.

The schedules of SplitFed (Thapa et al. 2022) and its relatives, for devices that are never late: links at their mean
rate, no jitter, no outage, lost packets sent again. A simulation plays every message instead, and waits as it has to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeai.core.link import LinkConfig
from edgeai.core.trace import read_trace
from edgeai.fedsplit.advise.load import Load
from edgeai.fedsplit.config.world import DeviceConfig

Schedule = Literal["alone", "turns", "queue", "replicas", "shared", "lockstep", "overlapped"]
"""How clients share the server.

alone: they do not need it. turns: one client after the other, nothing overlaps. queue: the same, but all take their
weights at once and have their first batch ready. replicas: each has its own server half, on some lane. shared: several
feed one half, batch by batch. lockstep: one step on the merged batch of all. overlapped: clients never wait for the
server.
"""


@dataclass(frozen=True)
class Mean:
    """A link's mean.

    Args:
        up_bps: Towards the server, resent packets taken off.
        down_bps: Back.
        delay_s: One way.
    """

    up_bps: float
    down_bps: float
    delay_s: float


@dataclass(frozen=True)
class Times:
    """One client's round: seconds of each thing it, its link and the server do for it."""

    forward_s: float
    backward_s: float
    up_s: float
    down_s: float
    sync_s: float
    """Of up_s and down_s, weights; with the delay of their messages, which the other two leave out."""
    server_s: float
    delay_s: float
    """Of the messages of all steps."""
    num_steps: int

    @property
    def chain_s(self) -> float:
        """One thing after the other."""
        steps_s = self.forward_s + self.backward_s + self.up_s + self.down_s + self.server_s + self.delay_s
        return steps_s + self.sync_s

    @property
    def first_s(self) -> float:
        """Until the first batch is at the server, weights left out."""
        return (self.forward_s + self.up_s + self.delay_s / 2) / max(1, self.num_steps)

    @property
    def step_s(self) -> float:
        """A step's share of the chain, weights left out."""
        return (self.chain_s - self.sync_s) / max(1, self.num_steps)


def mean_link(config: LinkConfig) -> Mean:
    """Returns the rates and the delay that a link has on average; outages, bursts and jitter are left out.

    Raises:
        UsageError: Its trace cannot be read.
    """
    up_bps, down_bps, delay_s, loss_frac = config.up_bps, config.down_bps, config.delay_s, config.loss_frac
    if config.trace is not None:
        trace = read_trace(config.trace)
        up_bps, down_bps, delay_s, loss_frac = (
            sum(values) / len(values) for values in (trace.up_bps, trace.down_bps, trace.delay_s, trace.loss_frac)
        )
    return Mean(up_bps * (1 - loss_frac), down_bps * (1 - loss_frac), delay_s)


def times_of(load: Load, device: DeviceConfig, link: Mean, server: DeviceConfig) -> Times:
    """Returns how long a client's load takes on its device and link."""
    sync_s = sum(
        8 * num_bytes / rate_bps + load.num_turns * link.delay_s
        for num_bytes, rate_bps in ((load.sync_up_bytes, link.up_bps), (load.sync_down_bytes, link.down_bps))
        if num_bytes
    )
    return Times(
        forward_s=load.forward_flops / device.flops_per_s,
        backward_s=load.backward_flops / device.flops_per_s,
        up_s=8 * (load.up_bytes - load.sync_up_bytes) / link.up_bps,
        down_s=8 * (load.down_bytes - load.sync_down_bytes) / link.down_bps,
        sync_s=sync_s,
        server_s=load.server_flops / server.flops_per_s,
        delay_s=load.num_steps * (load.num_up + load.num_down) * link.delay_s,
        num_steps=load.num_steps,
    )


def round_s(schedule: Schedule, clients: Sequence[Times], *, num_halves: int, lanes: int) -> float:
    """Returns how long a round takes.

    Args:
        schedule: How clients share the server.
        clients: Those of the round.
        num_halves: Server halves that the clients share evenly.
        lanes: Of the server; a half stays on its lane.
    """
    if schedule == "turns":
        return sum(times.chain_s for times in clients)
    if schedule == "queue":
        served_s = sum(times.chain_s - times.sync_s - times.first_s for times in clients)
        return clients[0].first_s + served_s + max(times.sync_s for times in clients)
    if schedule == "alone":
        return max(times.chain_s for times in clients)
    if schedule == "lockstep":
        before_s = max(times.forward_s + times.up_s + times.delay_s / 2 for times in clients)
        behind_s = max(times.backward_s + times.down_s + times.delay_s / 2 for times in clients)
        return before_s + sum(times.server_s for times in clients) + behind_s + max(times.sync_s for times in clients)
    num_in_lane = min(len(clients), math.ceil(len(clients) / num_halves) * math.ceil(num_halves / lanes))
    if schedule == "overlapped":
        return _overlapped_s(clients, num_in_lane)
    return _queued_s(clients, num_in_lane)


def _queued_s(clients: Sequence[Times], num_in_lane: int) -> float:
    """Clients of a lane take turns at it in every step.

    Either the slowest client sets the pace, and waits for the others once; or the lane does, and is never idle but
    while the first batch comes and the last gradient goes.
    """
    serve_s = sum(times.server_s for times in clients) / len(clients)
    num_steps = max(1, *(times.num_steps for times in clients))
    waits_s = (num_in_lane - 1) * serve_s / num_steps
    paced_by_client_s = max(times.chain_s for times in clients) + waits_s
    outside_s = max(times.sync_s + times.step_s - times.server_s / num_steps for times in clients)
    return max(paced_by_client_s, num_in_lane * serve_s + outside_s)


def _overlapped_s(clients: Sequence[Times], num_in_lane: int) -> float:
    """Computing, sending and the server's queue go on side by side; the slowest of the three sets the pace."""
    num_steps = max(1, *(times.num_steps for times in clients))
    trained_s = max(times.sync_s + times.forward_s + times.backward_s for times in clients)
    sent_s = max(times.sync_s + times.up_s for times in clients)
    serve_s = num_in_lane * sum(times.server_s for times in clients) / len(clients)
    lead_in_s = min((times.sync_s + times.delay_s + times.up_s + times.forward_s) / num_steps for times in clients)
    return max(trained_s, sent_s, serve_s + lead_in_s)


def line_s(load: Load, link: Mean) -> tuple[float, float]:
    """Returns how long a client's bytes are on the line, up and down."""
    return 8 * load.up_bytes / link.up_bps, 8 * load.down_bytes / link.down_bps


def energy_j(
    device: DeviceConfig, duration_s: float, *, compute_s: float, tx_s: float, rx_s: float, num_devices: int = 1
) -> float:
    """Returns what devices draw in a round: idle power throughout, and on top what each activity needs.

    Args:
        device: One of them.
        duration_s: Of the round.
        compute_s: They compute, all together.
        tx_s: They send.
        rx_s: They receive.
        num_devices: As many of them.
    """
    return (
        num_devices * device.idle_w * duration_s
        + (device.compute_w - device.idle_w) * compute_s
        + (device.tx_w - device.idle_w) * tx_s
        + (device.rx_w - device.idle_w) * rx_s
    )
