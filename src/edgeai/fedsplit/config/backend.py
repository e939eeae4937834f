"""Where the devices of a run live: in this process, on Flower's simulation engine, or on Flower's deployment engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config


class InprocConfig(Config):
    """All devices in this process, one after the other."""

    kind: Literal["inproc"] = "inproc"


class FlowerSimConfig(Config):
    """Flower's simulation engine: devices on Ray actors of this machine."""

    kind: Literal["flower-sim"] = "flower-sim"
    actors: int = Field(1, ge=1)
    """Processes that play devices. With one, a device's round stays in its memory; with several, consecutive messages
    of a device may land in different ones, which play its round again up to there."""
    gpus_per_actor: float = Field(0.0, ge=0)
    threads: int = Field(0, ge=0)
    """Threads of torch in each actor; 0 takes as many as the server, which keeps results the same to the bit."""
    silence_s: float = Field(600.0, gt=0)
    """The run fails when a device has said nothing for so long."""


class FlowerConfig(Config):
    """Flower's deployment engine: a SuperLink and SuperNodes, started by `edgeai fedsplit up`."""

    kind: Literal["flower"] = "flower"
    home: Path = Path("runs/flower")
    """What `edgeai fedsplit up` made."""
    transport: Literal["auto", "message", "stream"] = "auto"
    """A Flower message for every exchange, or one a round that opens a gRPC stream; auto: messages for methods that
    exchange once a round, a stream for all others."""
    silence_s: float = Field(60.0, gt=0)
    """A device that has said nothing for so long is lost: the round is played again without it."""
    start_s: float = Field(120.0, gt=0)
    """A device has so long for its first word in a round, because Flower starts a process for it."""
    min_nodes: int = Field(1, ge=1)
    """The run fails when fewer devices are there."""
    stream_host: str = "127.0.0.1"
    """Address of this machine's gRPC service, as devices see it."""
    stream_port: int = Field(0, ge=0, le=65535)
    """0 takes a free one."""
    chunk_bytes: int = Field(262_144, ge=1024)
    """Of a stream."""
    threads: int = Field(0, ge=0)
    """Threads of torch on each device; 0 takes as many as the server, which keeps results the same to the bit."""


BackendConfig = Annotated[InprocConfig | FlowerSimConfig | FlowerConfig, Field(discriminator="kind")]
