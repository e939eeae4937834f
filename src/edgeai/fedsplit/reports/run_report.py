"""The outcome of `edgeai fedsplit sim`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeai.fedsplit.privacy.leakage import Leakage


@dataclass(frozen=True)
class RoundRow:
    """What one round did. Sums run from the first round on."""

    round: int
    begin_s: float
    """Virtual time."""
    end_s: float
    num_clients: int
    """Started in this round."""
    num_late: int
    """Started, but not counted: lost, too late, or more than were wanted."""
    loss: float | None
    """Mean training loss; None where nobody trained."""
    accuracy: float | None
    """On the test samples; None in rounds that are not tested."""
    test_loss: float | None
    bytes_up: int
    """Sum, all kinds."""
    bytes_down: int
    clients_j: float
    """Sum of the energy of all clients."""
    server_j: float


@dataclass(frozen=True)
class Target:
    """What it took to reach the wanted accuracy."""

    accuracy: float
    round: int | None
    """The first tested round that reached it; None: none did."""
    num_bytes: int | None = None
    seconds: float | None = None
    joules: float | None = None


@dataclass(frozen=True)
class SimReport:
    """What came of a run. The same for the same config, whatever machine it ran on, up to its arithmetic."""

    method: str
    cuts: tuple[str, ...]
    """The layer that each client's cut follows; one name where all are alike; none for methods without a cut."""
    num_clients: int
    num_params: int
    histograms: tuple[tuple[int, ...], ...]
    """Training samples of each client by class."""
    rounds: tuple[RoundRow, ...]
    accuracy: float | None
    """At the last test."""
    best_accuracy: float | None
    client_accuracy: tuple[float, ...]
    """Each client's own model at the last test, where clients have their own."""
    bytes_up: Mapping[str, int]
    """By kind."""
    bytes_down: Mapping[str, int]
    seconds: float
    """Virtual time of all rounds."""
    clients_j: float
    server_j: float
    client_memory_bytes: int
    """The most that one client held: parts in training and what autograd saved for a batch."""
    client_held_bytes: int
    """Of that, what waited for the server's gradient."""
    server_memory_bytes: int
    target: Target | None
    leakage: Leakage | None
    epsilon: float | None
    """Of the client part under DP-SGD: the largest of all clients."""
    guarantees: tuple[str, ...]
    """What the privacy settings promise, in words."""
    warnings: tuple[str, ...]
    figures: Mapping[str, float]
    """Of the method's own, at the last round."""
    weights_hash: str
    """SHA-256 of all weights that the server holds in the end."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
