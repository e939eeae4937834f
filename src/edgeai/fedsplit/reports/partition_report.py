"""Report of `edgeai fedsplit partition`: sizes, classes, and distance from all samples. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from edgeai.core.report.fields import About, about


@dataclass(frozen=True)
class ClientPart:
    """The samples of one client."""

    COMPUTED: ClassVar = {"num_classes": About("classes", meaning="with at least one sample")}

    client: int = field(metadata=about("client"))
    num_samples: int = field(metadata=about("samples"))
    class_counts: tuple[int, ...] = field(metadata=about(""))
    """Samples of each class."""
    label_distance: float = field(
        metadata=about(
            "label distance",
            unit="1",
            meaning="total variation between the class distributions of the client and of all samples, from 0 (equal) "
            "to 1 (disjoint)",
        )
    )
    groups: tuple[str, ...] = field(
        default=(), metadata=about("groups", meaning="natural clients whose samples the client holds")
    )
    """Natural partitions only."""
    inputs: tuple[str, ...] = field(
        default=(), metadata=about("inputs", meaning="columns, or strip of a picture, that the client holds")
    )
    """Vertical partitions only."""


@dataclass(frozen=True)
class PartitionSummary:
    """All clients of a partition."""

    clients: tuple[ClientPart, ...] = field(metadata=about("clients"))
    num_samples: int = field(metadata=about("training samples"))
    num_unused: int = field(metadata=about("unused samples", meaning="training samples that no client holds"))
    class_counts: tuple[int, ...] = field(metadata=about("samples by class", hidden=True))
    """All training samples by class."""
    mean_label_distance: float = field(
        metadata=about("mean label distance", unit="1", meaning="over clients, weighted by samples")
    )
    size_gini: float = field(
        metadata=about(
            "Gini coefficient",
            unit="1",
            meaning="of the clients' sample counts, from 0 (all equal) towards 1 (one client holds everything)",
        )
    )


@dataclass(frozen=True)
class PartitionReport:
    """The result of `edgeai fedsplit partition`."""

    dataset: str = field(metadata=about("data set"))
    """Name of the data set."""
    kind: str = field(metadata=about("partition"))
    """Kind of partition."""
    num_clients: int = field(metadata=about("clients"))
    """Number of clients."""
    seed: int = field(metadata=about("seed"))
    """Seed of the partition."""
    classes: tuple[str, ...] = field(metadata=about("classes", hidden=True))
    """Names of the classes."""
    sample_shape: tuple[int, ...] = field(metadata=about("shape of a sample"))
    """Shape of one sample."""
    summary: PartitionSummary = field(metadata=about(""))
    """Sizes and classes of all clients."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
