"""Configs of backends: devices in this process, on Flower's simulation engine, or on Flower's deployment engine."""

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
    actors: int = Field(default=1, ge=1)
    """Processes that run devices. With one, a device's round stays in memory; with several, consecutive messages of a
    device may reach different processes, which replay its round up to that message."""
    gpus_per_actor: float = Field(default=0.0, ge=0)
    """GPUs reserved for each actor; may be a fraction."""
    threads: int = Field(default=0, ge=0)
    """Torch threads per actor; 0 uses as many as the server, which keeps results identical to the bit."""
    silence_s: float = Field(default=600.0, gt=0)
    """Time without an answer after which the run fails."""


class FlowerConfig(Config):
    """Flower's deployment engine: a SuperLink and SuperNodes, started by `edgeai fedsplit up`."""

    kind: Literal["flower"] = "flower"
    home: Path = Path("runs/flower")
    """Folder created by `edgeai fedsplit up`."""
    transport: Literal["auto", "message", "stream"] = "auto"
    """message: one Flower message per exchange; stream: one per round, which opens a gRPC stream; auto: message for
    methods with one exchange per round, stream for all others."""
    silence_s: float = Field(default=60.0, gt=0)
    """Time without an answer after which a device is lost and the round is repeated without it."""
    start_s: float = Field(default=120.0, gt=0)
    """Time limit for a device's first answer in a round, which includes the start of its process."""
    min_nodes: int = Field(default=1, ge=1)
    """Minimum number of devices; the run fails with fewer."""
    stream_host: str = "127.0.0.1"
    """Address of this machine's gRPC service, as seen by the devices."""
    stream_port: int = Field(default=0, ge=0, le=65535)
    """Port of the gRPC service; 0 selects a free one."""
    chunk_bytes: int = Field(default=262_144, ge=1024)
    """Chunk size of a stream."""
    threads: int = Field(default=0, ge=0)
    """Torch threads per device; 0 uses as many as the server, which keeps results identical to the bit."""


BackendConfig = Annotated[InprocConfig | FlowerSimConfig | FlowerConfig, Field(discriminator="kind")]
