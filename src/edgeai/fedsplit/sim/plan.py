"""Plan of a run for --dry-run: data, clients, cuts and cost per layer, without training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.history import cut_names, warnings_of


@dataclass(frozen=True)
class LayerRow:
    """One layer of the model, and the effect of a cut behind it."""

    name: str
    num_params: int
    forward_flops: float
    """Per sample."""
    output_shape: tuple[int, ...]
    cut_bytes: int
    """Bytes of one sample's smashed data for a cut behind this layer."""
    client_frac: float
    """Share of the model's FLOPs up to and including this layer."""


@dataclass(frozen=True)
class SimPlan:
    """Plan of a run."""

    method: str
    data: str
    num_train: int
    num_test: int
    num_classes: int
    clients: tuple[int, ...]
    """Number of training samples of each client."""
    cuts: tuple[str, ...]
    layers: tuple[LayerRow, ...]
    num_rounds: int
    steps_per_round: int
    """Training steps of all clients in one round."""
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def plan_sim(cfg: SimConfig) -> SimPlan:
    """Load the data and build the run, without training.

    Raises:
        UsageError: The config is not feasible.
    """
    sim = build_sim(cfg)
    return SimPlan(
        method=cfg.method.kind,
        data=sim.dataset.name,
        num_train=len(sim.dataset.train),
        num_test=len(sim.dataset.test),
        num_classes=sim.dataset.num_classes,
        clients=sim.setup.num_samples,
        cuts=cut_names(sim),
        layers=_layers(sim),
        num_rounds=cfg.rounds,
        steps_per_round=sum(sim.setup.num_batches(client) for client in range(cfg.num_clients)),
        warnings=warnings_of(sim),
    )


def _layers(sim: Sim) -> tuple[LayerRow, ...]:
    model = sim.setup.model
    total = model.cost(0, len(model)).forward_flops
    rows = []
    for number, name in enumerate(model.names):
        cost = model.cost(number, number + 1)
        share = model.cost(0, number + 1).forward_flops / total if total else 0.0
        rows.append(LayerRow(name, cost.num_params, cost.forward_flops, cost.output_shape, cost.output_bytes, share))
    return tuple(rows)
