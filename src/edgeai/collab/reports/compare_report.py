"""What a comparison finds out, worked out from the reports of single runs.

    mean, minimum, maximum      over seeds
    difference, ratio           to a reference strategy on the same seed, then mean, minimum and maximum over seeds

Metrics of a run: miou, cpa (mean recall of the classes) and accuracy (share of pixels) of the answers that stood at
their deadlines; upload_rate (frames that arrived at the cloud, by frames); up_bytes and down_bytes (headers and pushed
models included); p50_s, p95_s and p99_s of the latency from a frame to the answer that stood; missed_frac (frames whose
cloud answer came late or never, by frames); bwt and fwt (backward and forward transfer of the edge model, in mIoU).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Result = Mapping[str, Any]
"""report.json of one run."""
Results = Mapping[str, Mapping[int, Result]]
"""By strategy and seed."""


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    mean: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value a seed."""
        return cls(sum(values) / len(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One strategy."""

    strategy: str
    values: dict[str, dict[str, float]]
    """Metric, seed, value; metrics that a stream does not give, such as mIoU without labels, are missing."""
    spreads: dict[str, Spread]
    """By metric."""
    segment_miou: dict[str, Spread]
    """By drift segment, in order of appearance."""


@dataclass(frozen=True)
class Versus:
    """A strategy beside a reference in one metric."""

    strategy: str
    reference: str
    metric: str
    num_seeds: int
    """That both were played with."""
    difference: Spread
    """Strategy minus reference."""
    ratio: Spread | None
    """Strategy by reference; None where the reference is 0 on some seed."""


@dataclass(frozen=True)
class CompareReport:
    """Outcome of a comparison; definitions are the module's."""

    interrupted: bool
    """It was stopped; all is of the runs until then."""
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    versus: tuple[Versus, ...]
    failures: dict[str, str]
    """STRATEGY-SEED of runs that failed, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


METRICS: dict[str, Callable[[Result], float | None]] = {
    "miou": lambda result: _quality(result["evaluation"]["total"], "miou"),
    "cpa": lambda result: _quality(result["evaluation"]["total"], "cpa"),
    "accuracy": lambda result: _quality(result["evaluation"]["total"], "accuracy"),
    "upload_rate": lambda result: result["evaluation"]["total"]["upload_rate"],
    "up_bytes": lambda result: result["evaluation"]["total"]["up_bytes"],
    "down_bytes": lambda result: result["evaluation"]["total"]["down_bytes"],
    "p50_s": lambda result: _latency_s(result, "p50_s"),
    "p95_s": lambda result: _latency_s(result, "p95_s"),
    "p99_s": lambda result: _latency_s(result, "p99_s"),
    "missed_frac": lambda result: _missed_frac(result["evaluation"]["total"]),
    "bwt": lambda result: result["transfer"]["bwt"],
    "fwt": lambda result: result["transfer"]["fwt"],
}
"""Each from a run's report; None where the stream does not give it."""
RATIOS = ("miou", "up_bytes", "down_bytes", "p50_s", "p95_s", "p99_s")
"""Metrics whose ratio says something."""


def compare_report(
    results: Results,
    *,
    seeds: Sequence[int],
    against: Sequence[str],
    failures: Mapping[str, str],
    interrupted: bool = False,
) -> CompareReport:
    """Puts the reports of single runs side by side.

    Args:
        results: At least one; strategies in the order of the rows.
        seeds: Those that were asked for.
        against: References.
        failures: Runs that failed.
        interrupted: Some runs are missing.
    """
    rows = [_row(strategy, by_seed) for strategy, by_seed in results.items() if by_seed]
    known = {row.strategy: row for row in rows}
    pairs = [(row, known[name]) for name in against if name in known for row in rows if row.strategy != name]
    return CompareReport(
        interrupted=interrupted,
        seeds=tuple(seeds),
        rows=tuple(rows),
        versus=tuple(found for ours, theirs in pairs for found in _versus(ours, theirs)),
        failures=dict(failures),
    )


def _row(strategy: str, by_seed: Mapping[int, Result]) -> Row:
    values = {
        name: {str(seed): float(value) for seed, result in by_seed.items() if (value := metric(result)) is not None}
        for name, metric in METRICS.items()
    }
    values = {name: found for name, found in values.items() if found}
    segments: dict[str, list[float]] = {}
    for result in by_seed.values():
        for segment in result["evaluation"]["segments"]:
            miou = _quality(segment, "miou")
            if miou is not None:
                segments.setdefault(segment["name"], []).append(miou)
    return Row(
        strategy=strategy,
        values=values,
        spreads={name: Spread.of(list(found.values())) for name, found in values.items()},
        segment_miou={name: Spread.of(found) for name, found in segments.items()},
    )


def _versus(ours: Row, theirs: Row) -> list[Versus]:
    """Every metric that both have on a common seed."""
    found = []
    for metric, values in ours.values.items():
        others = theirs.values.get(metric, {})
        pairs = [(value, others[seed]) for seed, value in values.items() if seed in others]
        if not pairs:
            continue
        has_ratio = metric in RATIOS and all(other for _, other in pairs)
        found.append(
            Versus(
                strategy=ours.strategy,
                reference=theirs.strategy,
                metric=metric,
                num_seeds=len(pairs),
                difference=Spread.of([value - other for value, other in pairs]),
                ratio=Spread.of([value / other for value, other in pairs]) if has_ratio else None,
            )
        )
    return found


def _quality(part: Mapping[str, Any], name: str) -> float | None:
    quality = part["quality"]
    return None if quality is None else quality[name]


def _latency_s(result: Result, name: str) -> float | None:
    latency = result["evaluation"]["latency"]
    return None if latency is None else latency[name]


def _missed_frac(total: Mapping[str, Any]) -> float:
    return total["num_missed"] / total["num_frames"] if total["num_frames"] else 0.0
