"""The outcome of `edgeai fedsplit compare`: mean and range of each method over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeai.core.report.fields import about
from edgeai.core.stats import Spread, plain
from edgeai.fedsplit.config.run import SimConfig

Result = dict[str, Any]
"""A SimReport as plain values."""


@dataclass(frozen=True)
class CompareRow:
    """One method with one cut and partition."""

    label: str = field(metadata=about("method"))
    method: str = field(metadata=about("kind of method", hidden=True))
    partition: str = field(metadata=about("partition", hidden=True))
    cuts: tuple[str, ...] = field(metadata=about("cut after", hidden=True))
    seeds: tuple[int, ...] = field(metadata=about("seeds", hidden=True))
    accuracy: Spread = field(metadata=about("accuracy", unit="%", best="max"))
    bytes_up: Spread = field(metadata=about("up", unit="B", best="min"))
    bytes_down: Spread = field(metadata=about("down", unit="B", best="min"))
    seconds: Spread = field(metadata=about("virtual time", unit="s", best="min"))
    clients_j: Spread = field(metadata=about("energy of clients", best="min"))
    server_j: Spread = field(metadata=about("energy of server", best="min", hidden=True))
    client_memory_bytes: Spread = field(metadata=about("memory of a client", best="min"))
    server_memory_bytes: Spread = field(metadata=about("memory of the server", best="min"))
    target_round: Spread | None = field(metadata=about("rounds", best="min", hidden=True))
    """Over the seeds that reached the target accuracy; None without a target, and if no seed reached it."""
    target_bytes: Spread | None = field(metadata=about("traffic", best="min", hidden=True))
    target_seconds: Spread | None = field(metadata=about("virtual time", unit="s", best="min", hidden=True))
    target_joules: Spread | None = field(metadata=about("energy", unit="J", best="min", hidden=True))
    num_reached: int | None = field(metadata=about("seeds that reached it", best="max", hidden=True))
    """None without a target."""
    dcor: Spread | None = field(
        metadata=about("dCor(x, z)", unit="1", best="min", meaning="distance correlation of inputs and smashed data")
    )
    """None where it was not measured."""
    inversion_ssim: Spread | None = field(
        metadata=about("inversion SSIM", unit="1", best="min", meaning="similarity of a decoder's reconstructions")
    )
    """None where it was not measured."""
    curve: tuple[tuple[int, float, float, float, float], ...] = field(metadata=about("curve", hidden=True))
    """(round, accuracy, bytes, seconds, joules) of tested rounds, means over seeds."""


@dataclass(frozen=True)
class CompareReport:
    """All rows, in the order of the config."""

    target_accuracy: float | None = field(metadata=about("target accuracy", unit="%"))
    """Test accuracy whose cost is reported; None if none was set."""
    rows: tuple[CompareRow, ...] = field(metadata=about("methods"))
    """One row per method, cut and partition, over the seeds."""
    failures: Mapping[str, str] = field(metadata=about("failed runs"))
    """Reason by name of the run."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        document: dict[str, Any] = plain(self, {"mean": "mean", "least": "minimum", "largest": "maximum"})
        return document


def compare_report(results: Sequence[tuple[str, SimConfig, Result]], failures: Mapping[str, str]) -> CompareReport:
    """Combine the results of many runs.

    Args:
        results: (label, config, result) of each run; runs with the same label differ in their seed.
        failures: Reason by name of each run without a result.
    """
    by_label: dict[str, list[tuple[SimConfig, Result]]] = {}
    for label, cfg, result in results:
        by_label.setdefault(label, []).append((cfg, result))
    target = results[0][1].target_accuracy
    return CompareReport(target, tuple(_row(label, runs) for label, runs in by_label.items()), dict(failures))


def _row(label: str, runs: Sequence[tuple[SimConfig, Result]]) -> CompareRow:
    results = [result for _, result in runs]
    cfg = runs[0][0]

    def over(value: Callable[[Result], float | None]) -> Spread | None:
        values = [found for result in results if (found := value(result)) is not None]
        return Spread.of(values) if values else None

    def needed(value: Callable[[Result], float]) -> Spread:
        found = over(value)
        assert found is not None
        return found

    def target(field: str) -> Callable[[Result], float | None]:
        return lambda result: result["target"][field] if result["target"] else None

    def leakage(*path: str) -> Callable[[Result], float | None]:
        return lambda result: _at(result["leakage"], path)

    reached = [result["target"]["round"] is not None for result in results if result["target"]]
    return CompareRow(
        label=label,
        method=cfg.method.kind,
        partition=cfg.partition.kind,
        cuts=tuple(results[0]["cuts"]),
        seeds=tuple(one.seed for one, _ in runs),
        accuracy=needed(lambda result: result["accuracy"]),
        bytes_up=needed(lambda result: sum(result["bytes_up"].values())),
        bytes_down=needed(lambda result: sum(result["bytes_down"].values())),
        seconds=needed(lambda result: result["seconds"]),
        clients_j=needed(lambda result: result["clients_j"]),
        server_j=needed(lambda result: result["server_j"]),
        client_memory_bytes=needed(lambda result: result["client_memory_bytes"]),
        server_memory_bytes=needed(lambda result: result["server_memory_bytes"]),
        target_round=over(target("round")),
        target_bytes=over(target("num_bytes")),
        target_seconds=over(target("seconds")),
        target_joules=over(target("joules")),
        num_reached=sum(reached) if reached else None,
        dcor=over(leakage("dcor")),
        inversion_ssim=over(leakage("inversion", "ssim")),
        curve=_curve(results),
    )


def _at(tree: Any, path: Sequence[str]) -> float | None:
    for name in path:
        if tree is None:
            return None
        tree = tree.get(name)
    return None if tree is None else float(tree)


def _curve(results: Sequence[Result]) -> tuple[tuple[int, float, float, float, float], ...]:
    points = []
    for rows in zip(*(result["rounds"] for result in results), strict=True):
        if any(row["accuracy"] is None for row in rows):
            continue
        accuracy, num_bytes, end_s, joules = (
            sum(value(row) for row in rows) / len(rows)
            for value in (
                lambda row: row["accuracy"],
                lambda row: row["bytes_up"] + row["bytes_down"],
                lambda row: row["end_s"],
                lambda row: row["clients_j"] + row["server_j"],
            )
        )
        points.append((int(rows[0]["round"]), accuracy, num_bytes, end_s, joules))
    return tuple(points)
