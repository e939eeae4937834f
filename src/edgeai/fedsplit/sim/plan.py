"""Plan of a run for --dry-run: data, clients, cuts and cost per layer, without training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.fields import about
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.history import cut_names, warnings_of


@dataclass(frozen=True)
class LayerRow:
    """One layer of the model, and the effect of a cut behind it."""

    name: str = field(metadata=about("layer"))
    num_params: int = field(metadata=about("parameters"))
    forward_flops: float = field(metadata=about("forward", unit="FLOP", meaning="per sample"))
    output_shape: tuple[int, ...] = field(metadata=about("output"))
    cut_bytes: int = field(metadata=about("cut sends", meaning="smashed data of one sample at a cut after the layer"))
    client_frac: float = field(metadata=about("client's share", meaning="of the model's FLOPs up to the layer"))


@dataclass(frozen=True)
class SimPlan:
    """Plan of a run."""

    method: str = field(metadata=about("method"))
    data: str = field(metadata=about("data"))
    num_train: int = field(metadata=about("training samples"))
    num_test: int = field(metadata=about("test samples"))
    num_classes: int = field(metadata=about("classes"))
    clients: tuple[int, ...] = field(metadata=about("samples of each client"))
    cuts: tuple[str, ...] = field(metadata=about("cut after"))
    """Empty if clients train the whole model."""
    layers: tuple[LayerRow, ...] = field(metadata=about("layers"))
    num_rounds: int = field(metadata=about("rounds"))
    steps_per_round: int = field(metadata=about("steps per round", meaning="all clients together"))
    warnings: tuple[str, ...] = field(metadata=about("warnings"))

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
