"""Configs of the split-learning methods: one server half."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.fedsplit.config.cuts import Cut


class TurnsConfig(Config):
    """How clients take turns."""

    turn: Literal["client", "batch"] = "client"
    """A turn is all of a client's batches, or one batch (alternate mini-batch)."""
    hand_off: Literal["server", "peer"] = "server"
    """The client part travels through the server, charged twice, or straight to the next client, charged once."""


class RelayConfig(TurnsConfig):
    """Vanilla split learning: clients take turns, and hand the client part on (Gupta & Raskar 2018)."""

    kind: Literal["relay"] = "relay"


class UShapeConfig(TurnsConfig):
    """Split learning in three parts: labels and loss stay on the client (Vepakomma et al. 2018)."""

    kind: Literal["ushape"] = "ushape"
    tail: Cut = -1
    """The last layer of the server's part, by name or number; behind it the client takes over again. Negative numbers
    count from the end: -1 leaves the last layer to the client."""


class MultiHopConfig(TurnsConfig):
    """Split learning over a chain of relays (Vepakomma et al. 2018)."""

    kind: Literal["multihop"] = "multihop"
    hops: tuple[Cut, ...] = Field((-1,), min_length=1)
    """Further cuts behind the client's, in order, by name or number; -1 leaves the last layer to the last server."""


class LockStepConfig(Config):
    """How clients with different numbers of batches go in step."""

    uneven: Literal["stop", "shrink"] = "stop"
    """When a client runs out of batches: all stop, or the others go on without it."""


class PSLConfig(LockStepConfig):
    """Lock-step parallel split learning on the merged batch (Jeon & Kim 2020)."""

    kind: Literal["psl"] = "psl"
    sync: bool = True
    """Average the client parts after a round."""
    rescale: bool = True
    """Give each client the gradient of its own mean loss, not of the merged one."""


class SGLRConfig(LockStepConfig):
    """Split learning rate and averaged gradients without client sync (Pal et al. 2021)."""

    kind: Literal["sglr"] = "sglr"
    lr_power: float = Field(0.5, ge=0, le=1)
    """alpha: the server's learning rate is the client's times K^alpha."""
    average_frac: float = Field(0.5, ge=0, le=1)
    """phi: share of clients that get one averaged gradient vector."""


class EPSLConfig(LockStepConfig):
    """Last-layer gradients of a share of each batch are averaged over clients (Lin et al. 2023)."""

    kind: Literal["epsl"] = "epsl"
    aggregate_frac: float = Field(0.5, ge=0, le=1)
    """phi: 0 is PSL, 1 aggregates all."""


class CycleSLConfig(Config):
    """The server learns from all smashed data first, then gives frozen gradients back (CycleSL 2025)."""

    kind: Literal["cyclesl"] = "cyclesl"
    server_epochs: int = Field(1, ge=1)
    """Passes of the server over all smashed data of a round."""
    server_batch: int | None = Field(None, ge=1)
    """Samples in a step of the server; null is the run's batch."""
    sync: bool = True
    """Average the client parts after a round."""


class AsyncSLConfig(Config):
    """Clients are left alone while the loss stands still (Chen et al. 2021)."""

    kind: Literal["async-sl"] = "async-sl"
    threshold: float = Field(0.05, ge=0)
    """delta: clients are updated again when a round's loss differs by more than this from that of their last update."""
    max_reuse: int = Field(5, ge=0)
    """Rounds in a row in which the server may train on cached smashed data; then clients are updated all the same."""
