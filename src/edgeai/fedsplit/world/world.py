"""The world of a run: each client's device and link, the server, and the cohort of each round.

Every draw is seeded by (seed, purpose, round), never by a generator that advances, so that a resumed run repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeai.core.errors import UsageError
from edgeai.core.link import LinkConfig, find_link
from edgeai.fedsplit.config.world import DeviceConfig, ParticipationConfig, WorldConfig
from edgeai.fedsplit.world.catalog import find_device, read_catalog
from edgeai.fedsplit.world.participation import Cohort, CohortSampler

SERVER = -1
"""The server's number where a client number is expected."""

_SHARES, _SPEED = 0, 1  # purposes of the draws; the others are those of participation.py


class World:
    """Devices, links and participation of a run, determined by the arguments alone.

    Args:
        devices: Device of each client, at its own speed.
        links: Link of each client.
        server: One lane of the server.
        lanes: Number of server lanes.
        backhaul: Link between servers.
        participation: Availability and cohort size.
        seed: Seed of participation.
    """

    def __init__(
        self,
        devices: Sequence[DeviceConfig],
        links: Sequence[LinkConfig],
        server: DeviceConfig,
        lanes: int,
        backhaul: LinkConfig,
        participation: ParticipationConfig,
        seed: int,
    ) -> None:
        self._devices, self._links = tuple(devices), tuple(links)
        self._server, self._backhaul = server, backhaul
        self.lanes, self.participation = lanes, participation
        self._sampler = CohortSampler(participation, len(self._devices), seed)

    @property
    def num_clients(self) -> int:
        return len(self._devices)

    @property
    def deadline_s(self) -> float | None:
        """Seconds after which a round ends without the clients that have not delivered."""
        return self.participation.deadline_s

    def device(self, who: int) -> DeviceConfig:
        """Return a client's device, or one lane of the server for SERVER."""
        return self._server if who == SERVER else self._devices[who]

    def link_config(self, who: int) -> LinkConfig:
        """Return a client's link, or the link between servers for SERVER."""
        return self._backhaul if who == SERVER else self._links[who]

    def cohort(self, round_number: int) -> Cohort:
        """Draw the clients that take part in a round. There may be none."""
        return self._sampler.cohort(round_number)


def build_world(cfg: WorldConfig, num_clients: int, seed: int) -> World:
    """Assign a device and a link to each client.

    Raises:
        UsageError: A device is not in the catalog, the catalog cannot be read, or a round wants more clients than there
            are.
    """
    per_round = cfg.participation.per_round
    if per_round is not None and per_round > num_clients:
        raise UsageError(
            f"world.participation.per_round is {per_round}, but there are only {num_clients} clients",
            hint=f"set it to {num_clients} or less, or to null for all",
        )
    catalog = read_catalog(cfg.catalogue)
    types = [find_device(choice, catalog) for choice in cfg.devices]
    speeds = np.exp(cfg.speed_sigma * np.random.default_rng((seed, _SPEED)).standard_normal(num_clients))
    links = [find_link(choice) for choice in cfg.links]
    return World(
        devices=[
            _at_speed(types[number], float(speed))
            for number, speed in zip(_device_types(cfg, num_clients, seed), speeds, strict=True)
        ],
        links=[links[k % len(links)] for k in range(num_clients)],
        server=find_device(cfg.server.device, catalog),
        lanes=cfg.server.lanes,
        backhaul=find_link(cfg.server.backhaul),
        participation=cfg.participation,
        seed=seed,
    )


def _at_speed(device: DeviceConfig, factor: float) -> DeviceConfig:
    return device if factor == 1.0 else device.model_copy(update={"flops_per_s": device.flops_per_s * factor})


def _device_types(cfg: WorldConfig, num_clients: int, seed: int) -> list[int]:
    """Return the index in `cfg.devices` of each client's device."""
    if not cfg.shares:
        return [k % len(cfg.devices) for k in range(num_clients)]
    exact = [share / sum(cfg.shares) * num_clients for share in cfg.shares]
    counts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda kind: counts[kind] - exact[kind])
    for kind in by_remainder[: num_clients - sum(counts)]:
        counts[kind] += 1
    assigned = np.repeat(np.arange(len(counts)), counts)
    return [int(kind) for kind in np.random.default_rng((seed, _SHARES)).permutation(assigned)]
