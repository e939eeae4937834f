"""The training problem that a method is built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.protocol.batching import num_batches
from edgeai.fedsplit.world.world import World

if TYPE_CHECKING:  # the whole schema would triple the import closure of every method
    from edgeai.fedsplit.config.run import SimConfig


@dataclass(frozen=True)
class ClientInputs:
    """Inputs of the clients where each one holds only a part of every sample (vertical family)."""

    shapes: tuple[tuple[int, ...], ...] = ()
    """Shape of each client's samples."""
    indices: tuple[Tensor, ...] = ()
    """Vertical split: each client's indices on the axis that is partitioned, int64."""
    labels: Tensor | None = None
    """Vertical split: labels of all training samples, held by the server."""


@dataclass(frozen=True)
class Setup:
    """Everything that a method is built from; the same on every backend."""

    cfg: SimConfig
    model: SplitModel
    """Model with its initial weights. A method trains copies of it."""
    num_classes: int
    num_samples: tuple[int, ...]
    """Number of training samples of each client."""
    positions: tuple[int, ...]
    """Position of each client's cut."""
    world: World
    """Devices and links."""
    histograms: tuple[tuple[int, ...], ...] = ()
    """Label histogram of each client."""
    inputs: ClientInputs = field(default_factory=ClientInputs)
    """Inputs of the vertical family."""
    at_cut: nn.Module | None = None
    """Protection of smashed data at inference: bound and noise."""

    @property
    def first(self) -> int:
        """Position of the shallowest cut."""
        return min(self.positions)

    @property
    def distinct_positions(self) -> list[int]:
        """Positions of all cuts, each once, ascending."""
        return sorted(set(self.positions))

    def num_batches(self, client: int) -> int:
        """Return the number of training steps of a client in one round."""
        return num_batches(self.num_samples[client], self.cfg.batch, self.cfg.local_epochs)

    def shares(self, clients: Sequence[int]) -> list[float]:
        """Return each client's share of the samples of `clients`, n_k / n."""
        total = sum(self.num_samples[client] for client in clients)
        return [self.num_samples[client] / total for client in clients]
