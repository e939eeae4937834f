"""Time and energy of a round in closed form, from each client's load, device and link.

The schedules of SplitFed (Thapa et al. 2022) and related methods, for links at their mean rate: no jitter, no outages,
lost packets resent, no late devices. A simulation schedules every message instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeai.core.link import LinkConfig
from edgeai.core.link_trace import read_trace
from edgeai.fedsplit.advise.client_cost import Load
from edgeai.fedsplit.config.world import DeviceConfig

Schedule = Literal["alone", "turns", "queue", "replicas", "shared", "lockstep", "overlapped"]
"""How clients share the server.

alone: without the server. turns: one client after the other, without overlap. queue: one after the other, but all
receive their weights at once and have their first batch ready. replicas: one server half per client, on some lane.
shared: several clients use one half, batch by batch. lockstep: one step on the merged batch of all clients.
overlapped: clients never wait for the server.
"""


@dataclass(frozen=True)
class MeanLink:
    """Mean properties of a link.

    Args:
        up_bps: Goodput towards the server, after resent packets.
        down_bps: Goodput towards the client.
        delay_s: One-way delay.
    """

    up_bps: float
    down_bps: float
    delay_s: float


@dataclass(frozen=True)
class Times:
    """Durations of one client's round: its computation, its link, and the server's computation for it."""

    forward_s: float
    backward_s: float
    up_s: float
    down_s: float
    sync_s: float
    """Transfer of weights, with the delay of their messages; not included in up_s and down_s."""
    server_s: float
    delay_s: float
    """Delay of the messages of all steps."""
    num_steps: int

    @property
    def chain_s(self) -> float:
        """Duration without any overlap."""
        steps_s = self.forward_s + self.backward_s + self.up_s + self.down_s + self.server_s + self.delay_s
        return steps_s + self.sync_s

    @property
    def first_s(self) -> float:
        """Time until the first batch reaches the server, without weights."""
        return (self.forward_s + self.up_s + self.delay_s / 2) / max(1, self.num_steps)

    @property
    def step_s(self) -> float:
        """Mean duration of a step without overlap, without weights."""
        return (self.chain_s - self.sync_s) / max(1, self.num_steps)


def mean_link(config: LinkConfig) -> MeanLink:
    """Return the mean rates and delay of a link, without outages, bursts and jitter.

    Raises:
        UsageError: Its trace cannot be read.
    """
    up_bps, down_bps, delay_s, loss_frac = config.up_bps, config.down_bps, config.delay_s, config.loss_frac
    if config.trace is not None:
        trace = read_trace(config.trace)
        up_bps, down_bps, delay_s, loss_frac = (
            sum(values) / len(values) for values in (trace.up_bps, trace.down_bps, trace.delay_s, trace.loss_frac)
        )
    return MeanLink(up_bps * (1 - loss_frac), down_bps * (1 - loss_frac), delay_s)


def times_of(load: Load, device: DeviceConfig, link: MeanLink, server: DeviceConfig) -> Times:
    """Return the durations of a client's load on its device and link."""
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
    """Return the duration of a round.

    Args:
        schedule: How clients share the server.
        clients: Durations of the round's clients.
        num_halves: Number of server halves, shared evenly by the clients.
        lanes: Number of the server's parallel lanes; a half stays on its lane.
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
    """Return the duration if the clients of a lane take turns in every step.

    Either the slowest client is the bottleneck and waits for the others once per step, or the lane is, which is idle
    only while the first batch arrives and the last gradient is sent.
    """
    serve_s = sum(times.server_s for times in clients) / len(clients)
    num_steps = max(1, *(times.num_steps for times in clients))
    waits_s = (num_in_lane - 1) * serve_s / num_steps
    paced_by_client_s = max(times.chain_s for times in clients) + waits_s
    outside_s = max(times.sync_s + times.step_s - times.server_s / num_steps for times in clients)
    return max(paced_by_client_s, num_in_lane * serve_s + outside_s)


def _overlapped_s(clients: Sequence[Times], num_in_lane: int) -> float:
    """Return the duration if computing, sending and the server's queue overlap: that of the slowest of the three."""
    num_steps = max(1, *(times.num_steps for times in clients))
    trained_s = max(times.sync_s + times.forward_s + times.backward_s for times in clients)
    sent_s = max(times.sync_s + times.up_s for times in clients)
    serve_s = num_in_lane * sum(times.server_s for times in clients) / len(clients)
    lead_in_s = min((times.sync_s + times.delay_s + times.up_s + times.forward_s) / num_steps for times in clients)
    return max(trained_s, sent_s, serve_s + lead_in_s)


def line_s(load: Load, link: MeanLink) -> tuple[float, float]:
    """Return the transmit times of a client's bytes, up and down."""
    return 8 * load.up_bytes / link.up_bps, 8 * load.down_bytes / link.down_bps


def energy_j(
    device: DeviceConfig, duration_s: float, *, compute_s: float, tx_s: float, rx_s: float, num_devices: int = 1
) -> float:
    """Return the energy of equal devices in a round: idle power throughout, plus the extra power of each activity.

    Args:
        device: Power values of one device.
        duration_s: Duration of the round.
        compute_s: Computing time, summed over devices.
        tx_s: Sending time, summed over devices.
        rx_s: Receiving time, summed over devices.
        num_devices: Number of devices.
    """
    return (
        num_devices * device.idle_w * duration_s
        + (device.compute_w - device.idle_w) * compute_s
        + (device.tx_w - device.idle_w) * tx_s
        + (device.rx_w - device.idle_w) * rx_s
    )
