"""What `edgeai fedsplit advise` finds: every choice with its costs, and which of them are worth a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeai.fedsplit.advise.crossover import Counted, Crossover


@dataclass(frozen=True)
class Choice:
    """One method at one cut, and what a round of it costs.

    Args:
        method: Its name, with the settings that are not the default ones.
        cut: The layer that the cut follows; "" if nothing is cut.
        client_up_bytes: Sent by a client, mean.
        client_down_bytes: Received by a client, mean.
        total_bytes: Of all clients, both ways.
        seconds: Of the round.
        client_j: Energy of a client, mean.
        total_j: Of all clients and the server.
        client_memory_bytes: Weights, gradients, optimizer state and what autograd keeps of a batch; the largest.
        server_memory_bytes: The same of all that the server holds.
        fits: On every client, and on the server: each half on one lane, and all together on all of them.
        labels_leave: The server sees labels.
        averages_clients: Client parts become one again after the round; otherwise each client keeps its own.
        client_params_frac: Share of the parameters that clients train.
        client_flops_frac: Share of the forward FLOPs before the cut. At 0 inputs can be read off what crosses.
        cut_per_input: Values that cross for each value of the input. No measure of leakage.
        is_best: No other choice that fits is at least as good in seconds, bytes, joules and client memory.
    """

    method: str
    cut: str
    client_up_bytes: float
    client_down_bytes: float
    total_bytes: float
    seconds: float
    client_j: float
    total_j: float
    client_memory_bytes: int
    server_memory_bytes: int
    fits: bool
    labels_leave: bool
    averages_clients: bool
    client_params_frac: float
    client_flops_frac: float
    cut_per_input: float
    is_best: bool = False

    @property
    def name(self) -> str:
        """Method and cut in words."""
        return f"{self.method} cut after {self.cut}" if self.cut else self.method


@dataclass(frozen=True)
class CutPlace:
    """What lies at and before a place where the model can be cut.

    Args:
        cut: The layer that it follows.
        client_params: Parameters before it.
        client_flops_frac: Share of the model's forward FLOPs before it.
        cut_shape: Of one sample there.
        cut_bytes: Of one sample there, as float32.
        client_saved_bytes: What autograd keeps before it, of one sample.
    """

    cut: str
    client_params: int
    client_flops_frac: float
    cut_shape: tuple[int, ...]
    cut_bytes: int
    client_saved_bytes: float


@dataclass(frozen=True)
class AdviseReport:
    """What `edgeai fedsplit advise` found.

    Args:
        num_params: Of the model.
        weight_bytes: Of parameters and buffers.
        forward_flops: Of one sample.
        num_clients: In the world.
        num_active: In a round.
        samples_per_client: As asked.
        cuts: Every place to cut.
        choices: Every method at every cut, by method as asked and by depth.
        crossovers: Of each cut.
        counted: By the ledger, where asked for.
        recommendation: In plain words.
        notes: What the numbers leave out.
    """

    num_params: int
    weight_bytes: int
    forward_flops: float
    num_clients: int
    num_active: int
    samples_per_client: int
    cuts: tuple[CutPlace, ...]
    choices: tuple[Choice, ...]
    crossovers: tuple[Crossover, ...]
    counted: tuple[Counted, ...]
    recommendation: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> list[Choice]:
        """The Pareto set, fastest first."""
        return sorted((choice for choice in self.choices if choice.is_best), key=lambda choice: choice.seconds)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> AdviseReport:
        """Reads what `to_json` gave."""
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
        """Plain values."""
        return asdict(self)


def mark_best(choices: Sequence[Choice]) -> list[Choice]:
    """Marks the Pareto set among those that fit, or among all if none does."""
    open_to = [choice for choice in choices if choice.fits] or list(choices)
    goals = {id(choice): _goals(choice) for choice in open_to}

    def is_beaten(choice: Choice) -> bool:
        own = goals[id(choice)]
        return any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in goals.values())

    return [replace(choice, is_best=id(choice) in goals and not is_beaten(choice)) for choice in choices]


def _goals(choice: Choice) -> tuple[float, ...]:
    return choice.seconds, choice.total_bytes, choice.total_j, float(choice.client_memory_bytes)
