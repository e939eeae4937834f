"""Adaptive cuts: ARES and FedAdapt choose each client's cut before every round.

ARES: Samikwa, Di Maio & Braun, "ARES: Adaptive Resource-Aware Split Learning for Internet of Things", Computer Networks
2022. Each client uses the cut c that minimizes lambda T(c) + (1 - lambda) E(c), with T and E the expected time and
energy of a round at the throughput measured in the last round.
FedAdapt: Wu et al., "FedAdapt: Adaptive Offloading for IoT Devices in Federated Learning", IEEE Internet of Things
Journal 2022. Groups of similar clients learn their cuts from measured round times.

Differs from the papers. ARES: time and energy are each divided by their maximum over the cuts, so that lambda weights
dimensionless numbers; device speeds are assumed to be known. FedAdapt: a bandit replaces PPO, which needs many more
rounds than a simulation has: a group tries every cut once, then uses the best one so far, or a random one with
probability `explore_frac`; groups are formed once, from clients of similar speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.round_time import energy_j, line_s, mean_link
from edgeai.fedsplit.config.cuts import AresCut, FedAdaptCut
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.protocol.batching import derived_seed
from edgeai.fedsplit.protocol.ledger import Ledger
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.sim.cut_policy import CutPolicy

_METHODS = (
    "relay",
    "splitfed-v1",
    "splitfed-v2",
    "sflg",
    "psl",
    "mergesfl",
    "cyclesl",
    "cpsl",
    "hierarchical",
    "hsfl",
)
"""Methods whose client parts belong to one model, so that a layer can move between client and server."""
_EXPLORE = 60  # purpose of the draw


class Ares(CutPolicy):
    """ARES: the cut with the lowest expected time and energy."""

    def __init__(self, cfg: SimConfig, setup: Setup) -> None:
        super().__init__(cfg, setup)
        assert isinstance(cfg.cut, AresCut)
        self.time_weight = cfg.cut.time_weight
        clients = range(cfg.num_clients)
        self.links = [mean_link(setup.world.link_config(client)) for client in clients]
        """Last measured throughput of each client's link; before that, its average."""
        self.num_bytes = [(0, 0) for _ in clients]
        """Bytes up and down so far, by client."""

    def choose(self, number: int) -> tuple[int, ...]:
        """Return the cuts with the lowest weighted sum; ties go to the shallowest."""
        return tuple(self.best(client) for client in range(self.cfg.num_clients))

    def best(self, client: int) -> int:
        """Return one client's best cut."""
        seconds, joules = zip(*(self.weigh(client, position) for position in self.choices), strict=True)
        scores = [
            self.time_weight * duration_s / (max(seconds) or 1.0)
            + (1 - self.time_weight) * energy / (max(joules) or 1.0)
            for duration_s, energy in zip(seconds, joules, strict=True)
        ]
        return self.choices[scores.index(min(scores))]

    def weigh(self, client: int, position: int) -> tuple[float, float]:
        """Return the expected seconds and joules of a client's round."""
        load, times = self.expected(client, position, self.links[client])
        tx_s, rx_s = line_s(load, self.links[client])
        compute_s = times.forward_s + times.backward_s
        device = self.setup.world.device(client)
        return times.chain_s, energy_j(device, times.chain_s, compute_s=compute_s, tx_s=tx_s, rx_s=rx_s)

    def learn(self, rnd: Round, ledger: Ledger) -> None:
        """Measure the throughput of every client that took part."""
        assert rnd.usage is not None
        for client in rnd.clients:
            if client not in rnd.usage.clients:
                continue
            usage, totals, before = rnd.usage.clients[client], ledger.of_client(client), self.num_bytes[client]
            self.num_bytes[client] = (totals.up_bytes, totals.down_bytes)
            if client in rnd.late:
                continue  # not all of its bytes had been sent when the round ended
            link = self.links[client]
            self.links[client] = replace(
                link,
                up_bps=_rate(totals.up_bytes - before[0], usage.tx_s) or link.up_bps,
                down_bps=_rate(totals.down_bytes - before[1], usage.rx_s) or link.down_bps,
            )

    def memory(self) -> dict[str, Any]:
        """Return the measured rates, and the bytes so far."""
        return {
            "bps": [[link.up_bps, link.down_bps] for link in self.links],
            "num_bytes": [list(both) for both in self.num_bytes],
        }

    def remember(self, state: dict[str, Any]) -> None:
        """Restore what `memory` returned."""
        self.links = [
            replace(link, up_bps=up_bps, down_bps=down_bps)
            for link, (up_bps, down_bps) in zip(self.links, state["bps"], strict=True)
        ]
        self.num_bytes = [(up, down) for up, down in state["num_bytes"]]


@dataclass
class Arm:
    """Statistics of one cut within a group."""

    num_rounds: int = 0
    sample_s: float = math.inf
    """Mean seconds per sample."""


class FedAdapt(CutPolicy):
    """FedAdapt: a bandit over measured round times."""

    def __init__(self, cfg: SimConfig, setup: Setup) -> None:
        super().__init__(cfg, setup)
        assert isinstance(cfg.cut, FedAdaptCut)
        self.explore_frac = cfg.cut.explore_frac
        self.groups = speed_groups(setup, cfg.cut.groups)
        self.arms = [{position: Arm() for position in self.choices} for _ in self.groups]

    def choose(self, number: int) -> tuple[int, ...]:
        """Return each group's cut for all of its clients."""
        positions = list(self.positions)
        for group, clients in enumerate(self.groups):
            position = self.pick(number, group)
            for client in clients:
                positions[client] = position
        return tuple(positions)

    def pick(self, number: int, group: int) -> int:
        """Return an untried cut; otherwise a random one with probability `explore_frac`, or the best one."""
        arms = self.arms[group]
        untried = [position for position, arm in arms.items() if not arm.num_rounds]
        if untried:
            return untried[0]
        random = np.random.default_rng(derived_seed(self.cfg.seed, number, group, _EXPLORE))
        if random.random() < self.explore_frac:
            return self.choices[random.integers(len(self.choices))]
        return min(arms, key=lambda position: arms[position].sample_s)

    def learn(self, rnd: Round, ledger: Ledger) -> None:
        """Add the time per sample of each group's clients to the mean of its cut."""
        for group, clients in enumerate(self.groups):
            seconds = [self.sample_s(rnd, client) for client in clients if client in rnd.clients]
            if seconds:
                arm = self.arms[group][self.positions[clients[0]]]
                total_s = arm.num_rounds * arm.sample_s if arm.num_rounds else 0.0
                arm.num_rounds += 1
                arm.sample_s = (total_s + sum(seconds) / len(seconds)) / arm.num_rounds

    def sample_s(self, rnd: Round, client: int) -> float:
        """Return a client's seconds per sample: measured computing and transfers, expected server computing.

        A late client counts with at least the duration of the round.
        """
        assert rnd.usage is not None
        usage = rnd.usage.clients.get(client)
        _, times = self.expected(client, self.positions[client], mean_link(self.setup.world.link_config(client)))
        measured_s = usage.compute_s + usage.tx_s + usage.rx_s if usage else 0.0
        if client in rnd.late:
            measured_s = max(measured_s, rnd.usage.end_s - rnd.usage.begin_s)
        return (measured_s + times.server_s) / (self.setup.num_samples[client] * self.cfg.local_epochs)

    def memory(self) -> dict[str, Any]:
        """Return the statistics of each group's cuts."""
        return {"arms": [[[position, a.num_rounds, a.sample_s] for position, a in arms.items()] for arms in self.arms]}

    def remember(self, state: dict[str, Any]) -> None:
        """Restore what `memory` returned."""
        self.arms = [{position: Arm(num, mean_s) for position, num, mean_s in arms} for arms in state["arms"]]


def build_policy(cfg: SimConfig, setup: Setup) -> CutPolicy | None:
    """Build the policy that chooses the cuts; None for fixed cuts.

    Raises:
        UsageError: The method or the protection needs fixed cuts, or the codec fits no cut.
    """
    if not isinstance(cfg.cut, AresCut | FedAdaptCut):
        return None
    kind = cfg.cut.kind
    if cfg.method.kind not in _METHODS:
        raise UsageError(
            f"cut {kind} changes from round to round, but method {cfg.method.kind} needs fixed cuts",
            hint=f"give a layer as cut, or use one of {', '.join(_METHODS)}",
        )
    if not getattr(cfg.method, "sync", True):
        raise UsageError(
            f"cut {kind} changes from round to round, but client parts without sync are private",
            hint="set method.sync to true, or give a layer as cut",
        )
    for name in ("noise", "dp_sgd"):
        if getattr(cfg.privacy, name) is not None:
            raise UsageError(
                f"privacy.{name} needs a fixed cut, but cut {kind} changes from round to round",
                hint=f"give a layer as cut, or leave privacy.{name} empty",
            )
    return Ares(cfg, setup) if isinstance(cfg.cut, AresCut) else FedAdapt(cfg, setup)


def speed_groups(setup: Setup, num_groups: int) -> list[list[int]]:
    """Return groups of clients with similar speed, the fastest first; sizes differ by at most one."""
    world = setup.world

    def speed(client: int) -> tuple[float, float]:
        return world.device(client).flops_per_s, mean_link(world.link_config(client)).up_bps

    clients = sorted(range(len(setup.num_samples)), key=speed, reverse=True)
    num_groups = min(num_groups, len(clients))
    edges: Sequence[int] = [len(clients) * number // num_groups for number in range(num_groups + 1)]
    return [clients[start:stop] for start, stop in pairwise(edges)]


def _rate(num_bytes: int, seconds: float) -> float:
    return 8 * num_bytes / seconds if num_bytes and seconds else 0.0
