"""Statistics of repeated measurements, and the Pareto front of several costs."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A number measured several times: once per repeat or once per seed."""

    mean: float
    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(sum(values) / len(values), statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> "Spread":
        """Return the spread of all values multiplied by a positive factor."""
        return Spread(*(factor * value for value in (self.mean, self.median, self.minimum, self.maximum)))


def plain(record: Any, spread_keys: Mapping[str, str]) -> Any:
    """Return a record as plain data, like `dataclasses.asdict`, with each `Spread` under the keys of its report.

    Args:
        record: A dataclass instance, or a container of them.
        spread_keys: Attribute of `Spread` by its key in the JSON document.
    """
    if isinstance(record, Spread):
        return {key: getattr(record, name) for key, name in spread_keys.items()}
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {item.name: plain(getattr(record, item.name), spread_keys) for item in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {key: plain(value, spread_keys) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain(value, spread_keys) for value in record]
    return record


def pareto_front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the indices of the points on the Pareto front: no other point is at least as low in every cost and lower
    in one. Equal points are all kept.
    """

    def is_dominated(own: Sequence[float]) -> bool:
        return any(
            all(a <= b for a, b in zip(other, own, strict=True)) and tuple(other) != tuple(own) for other in costs
        )

    return [index for index, own in enumerate(costs) if not is_dominated(own)]
