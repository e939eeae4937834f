"""The outcome of `edgeai fedsplit sim`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.fields import about
from edgeai.fedsplit.reports.leakage_report import Leakage

TIMELINE = "timeline.json"
"""File of the jobs of the first round, in the run directory."""


@dataclass(frozen=True)
class RoundRow:
    """One round; bytes and energy are sums from the first round on."""

    round: int = field(metadata=about("round"))
    begin_s: float = field(metadata=about("begins"))
    """In virtual time."""
    end_s: float = field(metadata=about("virtual time"))
    num_clients: int = field(metadata=about("clients", meaning="clients that started in the round"))
    num_late: int = field(
        metadata=about("late", meaning="clients that started but did not count: lost, too late, or more than needed")
    )
    loss: float | None = field(metadata=about("loss", meaning="mean training loss"))
    """None where no client trained."""
    accuracy: float | None = field(metadata=about("accuracy", unit="%", meaning="on the test samples"))
    """None in rounds without a test."""
    test_loss: float | None = field(metadata=about("test loss"))
    bytes_up: int = field(metadata=about("up", unit="B"))
    bytes_down: int = field(metadata=about("down", unit="B"))
    clients_j: float = field(metadata=about("energy of clients"))
    server_j: float = field(metadata=about("energy of server"))


@dataclass(frozen=True)
class Target:
    """Cost of reaching the target accuracy."""

    accuracy: float = field(metadata=about("accuracy", unit="%"))
    round: int | None = field(metadata=about("round", meaning="first tested round at the target"))
    """None if no round reached it."""
    num_bytes: int | None = field(default=None, metadata=about("traffic"))
    seconds: float | None = field(default=None, metadata=about("virtual time", unit="s"))
    joules: float | None = field(default=None, metadata=about("energy", unit="J"))


@dataclass(frozen=True)
class SimReport:
    """Outcome of a run; the same for the same config on every machine, up to its arithmetic."""

    method: str = field(metadata=about("method"))
    """Kind of method."""
    cuts: tuple[str, ...] = field(metadata=about("cut after", meaning="last layer of the client part"))
    """One per client, a single name where all are equal, none for methods without a cut."""
    num_clients: int = field(metadata=about("clients"))
    """Number of clients."""
    num_params: int = field(metadata=about("parameters"))
    """Parameters of the whole model."""
    histograms: tuple[tuple[int, ...], ...] = field(metadata=about("samples by class", hidden=True))
    """Training samples of each client by class."""
    rounds: tuple[RoundRow, ...] = field(metadata=about("rounds"))
    """One row per round."""
    accuracy: float | None = field(metadata=about("accuracy", unit="%", best="max", meaning="at the last test"))
    """Test accuracy at the last test; None if there was none."""
    best_accuracy: float | None = field(metadata=about("best accuracy", unit="%", best="max", meaning="of all tests"))
    """Highest test accuracy of all tests."""
    client_accuracy: tuple[float, ...] = field(
        metadata=about("accuracy by client", unit="%", hidden=True, meaning="each client's own model at the last test")
    )
    """Accuracy of each client's own model at the last test; empty for one common model."""
    bytes_up: Mapping[str, int] = field(metadata=about("up", unit="B", best="min", hidden=True))
    """By kind of message."""
    bytes_down: Mapping[str, int] = field(metadata=about("down", unit="B", best="min", hidden=True))
    """By kind of message."""
    seconds: float = field(metadata=about("virtual time", unit="s", best="min", meaning="of all rounds"))
    """Virtual time of all rounds."""
    clients_j: float = field(metadata=about("energy of clients", best="min", meaning="sum over clients"))
    """Energy, summed over clients."""
    server_j: float = field(metadata=about("energy of server", best="min"))
    """Energy of the server."""
    client_memory_bytes: int = field(
        metadata=about(
            "memory of a client",
            best="min",
            meaning="largest of all clients: parts in training and activations saved for a batch",
        )
    )
    """Peak memory of training on a client, largest of all clients."""
    client_held_bytes: int = field(
        metadata=about("held while the server works", meaning="part of a client's memory that waits for the gradient")
    )
    """Part of a client's memory that waits for the gradient."""
    server_memory_bytes: int = field(metadata=about("memory of the server", best="min"))
    """Peak memory of training on the server."""
    target: Target | None = field(metadata=about("target", hidden=True))
    """Cost of reaching the target accuracy; None if none was set."""
    leakage: Leakage | None = field(metadata=about("", hidden=True))
    """Measured leakage; None if nothing was measured."""
    epsilon: float | None = field(
        metadata=about("epsilon", meaning="DP-SGD on the client part, largest of all clients", best="min")
    )
    """Privacy loss of DP-SGD on the client part, largest of all clients; None without it."""
    guarantees: tuple[str, ...] = field(metadata=about("guarantees", hidden=True))
    """What the privacy settings promise, in words."""
    warnings: tuple[str, ...] = field(metadata=about("warnings", hidden=True))
    """Warnings about the config or the run."""
    figures: Mapping[str, float] = field(metadata=about(""))
    """Values specific to the method, at the last round."""
    weights_hash: str = field(
        metadata=about("weights", meaning="SHA-256 of all weights the server holds at the end", hidden=True)
    )
    """SHA-256 of all weights that the server holds at the end."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
