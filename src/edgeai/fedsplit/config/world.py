"""The world of a run in its config: devices, links, the server, and who takes part in a round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config
from edgeai.core.link import LinkChoice


class DeviceConfig(Config):
    """A device. Powers are of the whole device while it does one thing."""

    flops_per_s: float = Field(gt=0, allow_inf_nan=False)
    """What training reaches in float32, not the peak. One multiply-add is two."""
    memory_bytes: int = Field(gt=0)
    """Of the processor that trains."""
    compute_w: float = Field(ge=0, allow_inf_nan=False)
    idle_w: float = Field(ge=0, allow_inf_nan=False)
    tx_w: float = Field(ge=0, allow_inf_nan=False)
    """While it sends."""
    rx_w: float = Field(ge=0, allow_inf_nan=False)
    """While it receives."""
    start_s: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Before its first word in a round, such as the start of a process."""

    @model_validator(mode="after")
    def _check(self) -> DeviceConfig:
        for name in ("compute_w", "tx_w", "rx_w"):
            if getattr(self, name) < self.idle_w:
                raise ValueError(f"{name} {getattr(self, name):g} is below idle_w {self.idle_w:g}")
        return self


DeviceChoice = str | DeviceConfig
"""A name from the catalogue, or a device in full."""


class CatalogueConfig(Config):
    """A file of devices by name."""

    devices: dict[str, DeviceConfig]


class AlwaysConfig(Config):
    """Every client is there in every round."""

    kind: Literal["always"] = "always"


class BernoulliConfig(Config):
    """Each client is there with the same probability, anew in each round."""

    kind: Literal["bernoulli"] = "bernoulli"
    p: float = Field(0.9, gt=0, le=1)
    """Probability of being there."""


class MarkovConfig(Config):
    """A client that is there leaves, and one that is away comes back: absences last."""

    kind: Literal["markov"] = "markov"
    p_drop: float = Field(0.1, ge=0, le=1)
    """Probability that a client that was there is away in the next round."""
    p_return: float = Field(0.5, gt=0, le=1)
    """Probability that a client that was away is there in the next round."""


AvailabilityConfig = Annotated[AlwaysConfig | BernoulliConfig | MarkovConfig, Field(discriminator="kind")]


class ParticipationConfig(Config):
    """Who takes part in a round."""

    per_round: int | None = Field(None, ge=1)
    """Clients whose work a round waits for; null is all that are there."""
    over_select: float = Field(1.0, ge=1, le=10)
    """Start this many times as many, and let the first ones count."""
    availability: AvailabilityConfig = AlwaysConfig()
    drop_frac: float = Field(0.0, ge=0, lt=1)
    """Probability that a client that was started vanishes before its last answer; what it did until then is charged."""
    deadline_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Seconds after which a round ends without the clients that are not done; null waits."""


class ServerConfig(Config):
    """The server side."""

    device: DeviceChoice = "workstation"
    lanes: int = Field(1, ge=1, le=100_000)
    """So many such devices work side by side; each serves one client at a time."""
    backhaul: LinkChoice = "lan"
    """Between servers, relays and edge aggregators."""


class WorldConfig(Config):
    """Devices, links, the server and participation."""

    devices: tuple[DeviceChoice, ...] = Field(("raspberry-pi-4",), min_length=1)
    """Given out to clients in turn: with [a, b] the clients have a, b, a, b and so on."""
    shares: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """One for each device: clients get devices in these shares, shuffled by the seed, instead of in turn."""
    catalogue: Path | None = None
    """YAML file with further devices: {devices: {my-board: {flops_per_s: ..., memory_bytes: ..., ...}}}."""
    speed_sigma: float = Field(0.0, ge=0, le=3)
    """Spread of speed among devices of one kind: each client's speed is multiplied by exp(sigma n), n standard normal,
    once per run. 0.5 makes the slowest of ten about four times slower than the fastest."""
    links: tuple[LinkChoice, ...] = Field(("wifi",), min_length=1)
    """Given out to clients in turn."""
    server: ServerConfig = ServerConfig()
    participation: ParticipationConfig = ParticipationConfig()

    @model_validator(mode="after")
    def _check(self) -> WorldConfig:
        if self.shares and len(self.shares) != len(self.devices):
            raise ValueError(f"{len(self.shares)} shares for {len(self.devices)} devices: give one for each")
        return self
