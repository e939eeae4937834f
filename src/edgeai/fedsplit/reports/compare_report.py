"""What a comparison finds out: each method's mean and range over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeai.fedsplit.config.run import SimConfig

Result = dict[str, Any]
"""A SimReport as plain values."""


@dataclass(frozen=True)
class Spread:
    """Mean, least and largest over seeds."""

    mean: float
    least: float
    largest: float


@dataclass(frozen=True)
class CompareRow:
    """One method with one cut and partition."""

    label: str
    method: str
    partition: str
    cuts: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracy: Spread
    bytes_up: Spread
    bytes_down: Spread
    seconds: Spread
    """Virtual."""
    clients_j: Spread
    server_j: Spread
    client_memory_bytes: Spread
    server_memory_bytes: Spread
    target_round: Spread | None
    """Of those seeds that reached the target accuracy; None: no target, or none did."""
    target_bytes: Spread | None
    target_seconds: Spread | None
    target_joules: Spread | None
    num_reached: int | None
    """Seeds that reached it; None without a target."""
    dcor: Spread | None
    """Distance correlation of inputs and smashed data, where it was measured."""
    inversion_ssim: Spread | None
    """Likeness of a decoder's reconstructions, where it was measured."""
    curve: tuple[tuple[int, float, float, float, float], ...]
    """(round, accuracy, bytes, seconds, joules), means over seeds, of tested rounds."""


@dataclass(frozen=True)
class CompareReport:
    """All rows, in the order of the config."""

    target_accuracy: float | None
    rows: tuple[CompareRow, ...]
    failures: Mapping[str, str]
    """Why a run has no result, by its name."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_report(results: Sequence[tuple[str, SimConfig, Result]], failures: Mapping[str, str]) -> CompareReport:
    """Puts the results of many runs together.

    Args:
        results: (label, config, result) of each run; runs with the same label differ in their seed.
        failures: Why a run has no result, by its name.
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
        return spread([found for result in results if (found := value(result)) is not None])

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


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and range; None of nothing."""
    return Spread(sum(values) / len(values), min(values), max(values)) if values else None


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
