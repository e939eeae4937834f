"""The world of a run: which device and link each client has, and who takes part in which round.

Everything is drawn from (seed, what it is for, round), never from a generator that runs along, so that a resumed run
sees the same world.
"""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeai.core.config import load_config
from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.core.link import LinkConfig, find_link
from edgeai.fedsplit.config.world import (
    BernoulliConfig,
    CatalogueConfig,
    DeviceChoice,
    DeviceConfig,
    MarkovConfig,
    ParticipationConfig,
    WorldConfig,
)

SERVER = -1
"""Stands for the server where a client's number is expected."""

_SHARES, _SPEED, _AVAILABLE, _COHORT, _DROPS = range(5)  # what a draw is for


@dataclass(frozen=True)
class Cohort:
    """The clients of one round.

    Args:
        round: Its number.
        selected: Started in this round, rising.
        unavailable: Away in this round, rising; nobody could start them.
        num_wanted: The round waits for so many of the selected, fewer only when too few are there.
        drops: Of the selected, those whose answer never comes.
    """

    round: int
    selected: tuple[int, ...]
    unavailable: tuple[int, ...]
    num_wanted: int
    drops: frozenset[int]


class World:
    """Devices, links and participation; the same for the same arguments.

    Args:
        devices: Of each client, its own speed included.
        links: Of each client.
        server: One lane of the server.
        lanes: So many of them.
        backhaul: Link between servers.
        participation: Who takes part.
        seed: Of participation.
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
        self.lanes, self.participation, self.seed = lanes, participation, seed
        self._chain: tuple[int, np.ndarray] | None = None  # the last round that the Markov chains were followed to

    @property
    def num_clients(self) -> int:
        return len(self._devices)

    @property
    def deadline_s(self) -> float | None:
        """Seconds after which a round ends without the clients that are not done."""
        return self.participation.deadline_s

    def device(self, who: int) -> DeviceConfig:
        """Returns a client's device, its own speed included, or with SERVER one lane of the server."""
        return self._server if who == SERVER else self._devices[who]

    def link_config(self, who: int) -> LinkConfig:
        """Returns a client's link, or with SERVER the one between servers."""
        return self._backhaul if who == SERVER else self._links[who]

    def cohort(self, round_number: int) -> Cohort:
        """Draws who takes part in a round. There may be nobody."""
        available_mask = self._available(round_number)
        available = np.flatnonzero(available_mask)
        wanted = self.participation.per_round or len(available)
        num_started = min(len(available), math.ceil(wanted * self.participation.over_select))
        picked = available
        if num_started < len(available):
            random = np.random.default_rng((self.seed, _COHORT, round_number))
            picked = np.sort(random.choice(available, num_started, replace=False))
        return Cohort(
            round=round_number,
            selected=tuple(picked.tolist()),
            unavailable=tuple(np.flatnonzero(~available_mask).tolist()),
            num_wanted=min(wanted, num_started),
            drops=self._drops(picked, round_number),
        )

    def _drops(self, picked: np.ndarray, round_number: int) -> frozenset[int]:
        if not self.participation.drop_frac:
            return frozenset()
        draws = np.random.default_rng((self.seed, _DROPS, round_number)).random(self.num_clients)
        return frozenset(int(k) for k in picked if draws[k] < self.participation.drop_frac)

    def _available(self, round_number: int) -> np.ndarray:
        """Returns for each client whether it is there."""
        how = self.participation.availability
        if isinstance(how, BernoulliConfig):
            return self._uniform(round_number) < how.p
        if isinstance(how, MarkovConfig):
            return self._follow_chain(how, round_number)
        return np.ones(self.num_clients, dtype=bool)

    def _follow_chain(self, how: MarkovConfig, round_number: int) -> np.ndarray:
        """Follows the chains of all clients from round 0, where they start in the long-run mix."""
        if self._chain is None or self._chain[0] > round_number:
            self._chain = (0, self._uniform(0) < how.p_return / (how.p_drop + how.p_return))
        at, there_mask = self._chain
        for number in range(at + 1, round_number + 1):
            draws = self._uniform(number)
            there_mask = np.where(there_mask, draws >= how.p_drop, draws < how.p_return)
        self._chain = (round_number, there_mask)
        return there_mask

    def _uniform(self, round_number: int) -> np.ndarray:
        return np.random.default_rng((self.seed, _AVAILABLE, round_number)).random(self.num_clients)


def build_world(cfg: WorldConfig, num_clients: int, seed: int) -> World:
    """Gives each client its device and its link.

    Raises:
        UsageError: A device is in no catalogue, the catalogue cannot be read, or a round wants more clients than there
            are.
    """
    per_round = cfg.participation.per_round
    if per_round is not None and per_round > num_clients:
        raise UsageError(
            f"world.participation.per_round is {per_round}, but there are only {num_clients} clients",
            hint=f"set it to {num_clients} or less, or to null for all",
        )
    catalogue = read_catalogue(cfg.catalogue)
    kinds = [find_device(choice, catalogue) for choice in cfg.devices]
    speeds = np.exp(cfg.speed_sigma * np.random.default_rng((seed, _SPEED)).standard_normal(num_clients))
    links = [find_link(choice) for choice in cfg.links]
    return World(
        devices=[
            _at_speed(kinds[kind], float(speed))
            for kind, speed in zip(_assign(cfg, num_clients, seed), speeds, strict=True)
        ],
        links=[links[k % len(links)] for k in range(num_clients)],
        server=find_device(cfg.server.device, catalogue),
        lanes=cfg.server.lanes,
        backhaul=find_link(cfg.server.backhaul),
        participation=cfg.participation,
        seed=seed,
    )


def find_device(choice: DeviceChoice, catalogue: Mapping[str, DeviceConfig]) -> DeviceConfig:
    """Returns the device that a name stands for, or the device itself.

    Raises:
        UsageError: The name is in no catalogue.
    """
    if isinstance(choice, DeviceConfig):
        return choice
    if choice not in catalogue:
        near = nearest(choice, catalogue)
        hint = f'did you mean "{near}"? ' if near else ""
        raise UsageError(f'no device "{choice}"', hint=f"{hint}there are: {', '.join(catalogue)}")
    return catalogue[choice]


def read_catalogue(path: Path | None = None) -> dict[str, DeviceConfig]:
    """Reads the shipped devices and those of a file, which may replace shipped ones.

    Raises:
        UsageError: The file cannot be read, or a device in it is not complete.
    """
    shipped = Path(str(importlib.resources.files("edgeai.fedsplit.sim"))) / "devices.yaml"
    catalogue = dict(load_config(CatalogueConfig, shipped).devices)
    if path is not None:
        catalogue.update(_own_devices(path))
    return catalogue


def _own_devices(path: Path) -> dict[str, DeviceConfig]:
    """Reads a user's file of devices."""
    if not path.is_file():
        raise UsageError(f"world.catalogue: no file {path}", hint="give the path of a YAML file of devices")
    try:
        return dict(load_config(CatalogueConfig, path).devices)
    except UsageError as error:
        keys = ", ".join(DeviceConfig.model_fields)
        raise UsageError(error.message, hint=f"devices: NAME: {{...}} with the keys {keys}") from None


def _at_speed(device: DeviceConfig, times: float) -> DeviceConfig:
    return device if times == 1.0 else device.model_copy(update={"flops_per_s": device.flops_per_s * times})


def _assign(cfg: WorldConfig, num_clients: int, seed: int) -> list[int]:
    """Returns the number of each client's device within `cfg.devices`."""
    if not cfg.shares:
        return [k % len(cfg.devices) for k in range(num_clients)]
    exact = [share / sum(cfg.shares) * num_clients for share in cfg.shares]
    counts = [math.floor(part) for part in exact]
    by_remainder = sorted(range(len(exact)), key=lambda kind: counts[kind] - exact[kind])
    for kind in by_remainder[: num_clients - sum(counts)]:
        counts[kind] += 1
    dealt = np.repeat(np.arange(len(counts)), counts)
    return [int(kind) for kind in np.random.default_rng((seed, _SHARES)).permutation(dealt)]
