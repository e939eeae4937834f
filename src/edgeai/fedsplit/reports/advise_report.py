"""The outcome of `edgeai fedsplit advise`: every choice with its costs, and the Pareto set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeai.core.report.fields import about
from edgeai.core.stats import pareto_front
from edgeai.fedsplit.advise.crossover import Counted, Crossover


@dataclass(frozen=True)
class Choice:
    """One method at one cut, and the cost of one round."""

    method: str = field(metadata=about("method"))
    """Name, with the settings that differ from the defaults."""
    cut: str = field(metadata=about("cut after"))
    """Layer that the cut follows; "" without a cut."""
    client_up_bytes: float = field(metadata=about("sent", meaning="mean of a client"))
    client_down_bytes: float = field(metadata=about("received", meaning="mean of a client"))
    total_bytes: float = field(metadata=about("all traffic", best="min"))
    """Sum over clients, both ways."""
    seconds: float = field(metadata=about("time", unit="s", best="min"))
    client_j: float = field(metadata=about("energy of a client", hidden=True))
    total_j: float = field(metadata=about("energy", best="min"))
    """Sum over all clients and the server."""
    client_memory_bytes: int = field(metadata=about("client memory", best="min"))
    """Weights, gradients, optimizer state and what autograd saves for a batch; largest of all clients."""
    server_memory_bytes: int = field(metadata=about("server memory"))
    """The same for all that the server holds."""
    fits: bool = field(metadata=about("fits"))
    """On every client, and on the server: each half on one lane, and all together on all lanes."""
    labels_leave: bool = field(metadata=about("labels leave"))
    """Whether the server sees labels."""
    averages_clients: bool = field(metadata=about("one model"))
    """Whether client parts are averaged after the round; otherwise each client keeps its own."""
    client_params_frac: float = field(metadata=about("client share", meaning="of the parameters"))
    client_flops_frac: float = field(metadata=about("client's share of FLOPs", hidden=True))
    """Share of the forward FLOPs before the cut. At 0, inputs can be read from the values sent."""
    cut_per_input: float = field(metadata=about("values sent per input value", hidden=True))
    """Not a measure of leakage."""
    is_best: bool = field(default=False, metadata=about("on the Pareto front", hidden=True))
    """No other choice that fits is at least as good in seconds, bytes, joules and client memory."""

    @property
    def name(self) -> str:
        """Return method and cut in words."""
        return f"{self.method} cut after {self.cut}" if self.cut else self.method


@dataclass(frozen=True)
class CutPlace:
    """A place where the model can be cut, and the client part before it."""

    cut: str = field(metadata=about("cut after"))
    client_params: int = field(metadata=about("client parameters"))
    client_flops_frac: float = field(metadata=about("client FLOPs", meaning="share of the model's forward FLOPs"))
    cut_shape: tuple[int, ...] = field(metadata=about("shape", meaning="of one sample at the cut"))
    cut_bytes: int = field(metadata=about("per sample", meaning="bytes of one sample at the cut, as float32"))
    client_saved_bytes: float = field(metadata=about("kept for backward", meaning="saved by autograd for one sample"))


@dataclass(frozen=True)
class AdviseReport:
    """Outcome of `edgeai fedsplit advise`."""

    num_params: int = field(metadata=about("parameters"))
    """Parameters of the whole model."""
    weight_bytes: int = field(metadata=about("weights", meaning="parameters and buffers"))
    """Size of parameters and buffers."""
    forward_flops: float = field(metadata=about("forward pass", unit="FLOP", meaning="of one sample"))
    """FLOPs of the forward pass of one sample."""
    num_clients: int = field(metadata=about("clients"))
    """Number of clients."""
    num_active: int = field(metadata=about("clients per round"))
    """Clients that take part in a round."""
    samples_per_client: int = field(metadata=about("samples per client"))
    """Samples of each client."""
    cuts: tuple[CutPlace, ...] = field(metadata=about("places to cut"))
    """Places where the model can be cut."""
    choices: tuple[Choice, ...] = field(metadata=about("choices"))
    """Every method at every cut, by method in the order of the config and by depth."""
    crossovers: tuple[Crossover, ...] = field(metadata=about("crossovers"))
    """Samples per client from which FedAvg costs less traffic than splitting, by cut."""
    counted: tuple[Counted, ...] = field(metadata=about("counted by the ledger"))
    """Bytes counted in simulated rounds, to check the crossover formulas; empty without `count_samples`."""
    recommendation: tuple[str, ...] = field(metadata=about("recommendation"))
    """Recommended choices, one sentence each."""
    notes: tuple[str, ...] = field(metadata=about("limitations"))
    """What the estimates leave out."""

    @property
    def best(self) -> list[Choice]:
        """Return the Pareto set, fastest first."""
        return sorted((choice for choice in self.choices if choice.is_best), key=lambda choice: choice.seconds)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> AdviseReport:
        """Return the report that `to_json` wrote."""
        cuts = (CutPlace(**{**item, "cut_shape": tuple(item["cut_shape"])}) for item in tree["cuts"])
        return cls(
            **{
                **tree,
                "cuts": tuple(cuts),
                "choices": tuple(Choice(**item) for item in tree["choices"]),
                "crossovers": tuple(Crossover(**item) for item in tree["crossovers"]),
                "counted": tuple(Counted(**item) for item in tree["counted"]),
                "recommendation": tuple(tree["recommendation"]),
                "notes": tuple(tree["notes"]),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def mark_best(choices: Sequence[Choice]) -> list[Choice]:
    """Mark the Pareto set among the choices that fit, or among all if none fits."""
    candidates = [index for index, choice in enumerate(choices) if choice.fits] or list(range(len(choices)))
    front = {candidates[index] for index in pareto_front([_costs(choices[index]) for index in candidates])}
    return [replace(choice, is_best=index in front) for index, choice in enumerate(choices)]


def _costs(choice: Choice) -> tuple[float, ...]:
    return choice.seconds, choice.total_bytes, choice.total_j, float(choice.client_memory_bytes)
