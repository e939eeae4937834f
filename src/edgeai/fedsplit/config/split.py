"""Configs of the split-learning methods: one server half."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.fedsplit.config.cuts import Cut


class TurnsConfig(Config):
    """Options of methods in which clients take turns."""

    turn: Literal["client", "batch"] = "client"
    """A turn is all of a client's batches, or a single batch (alternate mini-batch)."""
    hand_off: Literal["server", "peer"] = "server"
    """The client part is sent via the server, charged twice, or directly to the next client, charged once."""


class RelayConfig(TurnsConfig):
    """Vanilla split learning: clients take turns and pass the client part on (Gupta & Raskar 2018)."""

    kind: Literal["relay"] = "relay"


class UShapeConfig(TurnsConfig):
    """U-shaped split learning: labels and loss stay on the client (Vepakomma et al. 2018)."""

    kind: Literal["ushape"] = "ushape"
    tail: Cut = -1
    """Last layer of the server's part, by name or number; the layers behind it are on the client. Negative numbers
    count from the end: -1 leaves the last layer to the client."""


class MultiHopConfig(TurnsConfig):
    """Split learning over a chain of servers (Vepakomma et al. 2018)."""

    kind: Literal["multihop"] = "multihop"
    hops: tuple[Cut, ...] = Field(default=(-1,), min_length=1)
    """Further cuts behind the client's, in order, by name or number; -1 leaves the last layer to the last server."""


class LockStepConfig(Config):
    """Options of methods in which clients train in lock-step."""

    uneven: Literal["stop", "shrink"] = "stop"
    """When a client runs out of batches: stop all clients, or continue without it."""


class PSLConfig(LockStepConfig):
    """Lock-step parallel split learning on the merged batch (Jeon & Kim 2020)."""

    kind: Literal["psl"] = "psl"
    sync: bool = True
    """Average the client parts after each round."""
    rescale: bool = True
    """Scale each client's gradient to that of its own mean loss, instead of the merged batch's."""


class SGLRConfig(LockStepConfig):
    """Split learning rate and averaged gradients without client sync (Pal et al. 2021)."""

    kind: Literal["sglr"] = "sglr"
    lr_power: float = Field(default=0.5, ge=0, le=1)
    """alpha: the server's learning rate is the client's times K^alpha for K clients."""
    average_frac: float = Field(default=0.5, ge=0, le=1)
    """phi: share of clients that receive one averaged gradient vector."""


class EPSLConfig(LockStepConfig):
    """Parallel split learning with averaged last-layer gradients for a share of each batch (Lin et al. 2023)."""

    kind: Literal["epsl"] = "epsl"
    aggregate_frac: float = Field(default=0.5, ge=0, le=1)
    """phi: share of each batch that is aggregated; 0 equals PSL, 1 aggregates all."""


class CycleSLConfig(Config):
    """The server trains on all smashed data first, then sends gradients of its frozen weights (CycleSL 2025)."""

    kind: Literal["cyclesl"] = "cyclesl"
    server_epochs: int = Field(default=1, ge=1)
    """Server epochs over all smashed data of a round."""
    server_batch: int | None = Field(default=None, ge=1)
    """Batch size of the server; null uses that of the run."""
    sync: bool = True
    """Average the client parts after each round."""


class AsyncSLConfig(Config):
    """Asynchronous split learning: clients are not updated while the loss changes little (Chen et al. 2021)."""

    kind: Literal["async-sl"] = "async-sl"
    threshold: float = Field(default=0.05, ge=0)
    """delta: clients are updated again if a round's loss differs by more than this from that of their last update."""
    max_reuse: int = Field(default=5, ge=0)
    """Maximum number of consecutive rounds on cached smashed data before clients are updated again."""
