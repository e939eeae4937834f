"""Configs of the world: devices, links, the server, and participation in a round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config
from edgeai.core.link import LinkChoice


class DeviceConfig(Config):
    """A device. Powers are those of the whole device during one activity."""

    flops_per_s: float = Field(gt=0, allow_inf_nan=False)
    """Sustained float32 training speed, not the peak. One multiply-add is two FLOPs."""
    memory_bytes: int = Field(gt=0)
    """Memory of the training processor."""
    compute_w: float = Field(ge=0, allow_inf_nan=False)
    """Power while computing."""
    idle_w: float = Field(ge=0, allow_inf_nan=False)
    """Power while idle."""
    tx_w: float = Field(ge=0, allow_inf_nan=False)
    """Power while transmitting."""
    rx_w: float = Field(ge=0, allow_inf_nan=False)
    """Power while receiving."""
    start_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Startup time before the first answer in a round, such as the start of a process."""

    @model_validator(mode="after")
    def _check(self) -> DeviceConfig:
        for name in ("compute_w", "tx_w", "rx_w"):
            if getattr(self, name) < self.idle_w:
                raise ValueError(f"{name} {getattr(self, name):g} is below idle_w {self.idle_w:g}")
        return self


DeviceChoice = str | DeviceConfig
"""Name of a device in the catalog, or a device given in full."""


class CatalogueConfig(Config):
    """File of devices by name."""

    devices: dict[str, DeviceConfig]


class AlwaysConfig(Config):
    """Every client is available in every round."""

    kind: Literal["always"] = "always"


class BernoulliConfig(Config):
    """Each client is available with the same probability, independently in each round."""

    kind: Literal["bernoulli"] = "bernoulli"
    p: float = Field(default=0.9, gt=0, le=1)
    """Probability of availability."""


class MarkovConfig(Config):
    """Availability follows a Markov chain per client, so that absences last several rounds."""

    kind: Literal["markov"] = "markov"
    p_drop: float = Field(default=0.1, ge=0, le=1)
    """Probability that an available client is unavailable in the next round."""
    p_return: float = Field(default=0.5, gt=0, le=1)
    """Probability that an unavailable client is available in the next round."""


AvailabilityConfig = Annotated[AlwaysConfig | BernoulliConfig | MarkovConfig, Field(discriminator="kind")]


class ParticipationConfig(Config):
    """Participation of clients in a round."""

    per_round: int | None = Field(default=None, ge=1)
    """Number of clients that a round waits for; null waits for all available ones."""
    over_select: float = Field(default=1.0, ge=1, le=10)
    """Over-selection: start this many times as many clients, and count the first ones that deliver."""
    availability: AvailabilityConfig = AlwaysConfig()
    """Model of the availability of clients."""
    drop_frac: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a started client is lost before its final reply; its work until then is charged."""
    deadline_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds after which a round ends without the clients that have not delivered; null waits for them."""


class ServerConfig(Config):
    """Server devices and their links."""

    device: DeviceChoice = "workstation"
    """Name of the server device in the catalog, or a device given in full."""
    lanes: int = Field(default=1, ge=1, le=100_000)
    """Number of such devices in parallel; each serves one client at a time."""
    backhaul: LinkChoice = "lan"
    """Link between servers, relays and edge aggregators."""


class WorldConfig(Config):
    """Devices, links, the server and participation."""

    devices: tuple[DeviceChoice, ...] = Field(default=("raspberry-pi-4",), min_length=1)
    """Devices, assigned to clients in turn: with [a, b] the clients have a, b, a, b and so on."""
    shares: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Share of clients per device, assigned at random by the seed instead of in turn."""
    catalogue: Path | None = None
    """YAML file with further devices: {devices: {my-board: {flops_per_s: ..., memory_bytes: ..., ...}}}."""
    speed_sigma: float = Field(default=0.0, ge=0, le=3)
    """Spread of device speeds: each client's speed is multiplied by exp(sigma n), with n standard normal, once per run.
    With 0.5 the slowest of ten clients is about four times slower than the fastest."""
    links: tuple[LinkChoice, ...] = Field(default=("wifi",), min_length=1)
    """Links, assigned to clients in turn."""
    server: ServerConfig = ServerConfig()
    participation: ParticipationConfig = ParticipationConfig()

    @model_validator(mode="after")
    def _check(self) -> WorldConfig:
        if self.shares and len(self.shares) != len(self.devices):
            raise ValueError(f"{len(self.shares)} shares for {len(self.devices)} devices: give one per device")
        return self
