"""The outcome of a comparison, computed from the reports of single runs.

mean, minimum, maximum      over seeds
difference, ratio           to a reference strategy on the same seed, then mean, minimum and maximum over seeds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeai.core.report.fields import About, about
from edgeai.core.stats import Spread, plain

Result = Mapping[str, Any]
"""report.json of one run."""
Results = Mapping[str, Mapping[int, Result]]
"""Results by strategy and seed."""


@dataclass(frozen=True)
class Metric:
    """One number of a run's report that strategies are compared by."""

    about: About
    of: Callable[[Result], float | None]
    """Returns the value; None where the stream does not give it."""


METRICS: dict[str, Metric] = {
    "miou": Metric(
        About("mIoU", "1", "mean over classes of intersection over union", "max"),
        lambda result: _quality(result, "miou"),
    ),
    "cpa": Metric(About("CPA", "1", "mean recall of the classes", "max"), lambda result: _quality(result, "cpa")),
    "accuracy": Metric(
        About("pixel accuracy", "1", "share of correct pixels", "max"), lambda result: _quality(result, "accuracy")
    ),
    "upload_rate": Metric(
        About("uploads", "%", "share of frames that arrived at the cloud"), lambda result: _total(result)["upload_rate"]
    ),
    "up_bytes": Metric(About("uplink", "B", "frames and headers"), lambda result: _total(result)["up_bytes"]),
    "down_bytes": Metric(
        About("downlink", "B", "answers, pushed models and headers"), lambda result: _total(result)["down_bytes"]
    ),
    "p50_s": Metric(
        About("p50", "s", "median latency from a frame to the answer shown"), lambda result: _latency_s(result, "p50_s")
    ),
    "p95_s": Metric(About("p95", "s", "95th percentile of that latency"), lambda result: _latency_s(result, "p95_s")),
    "p99_s": Metric(About("p99", "s", "99th percentile of that latency"), lambda result: _latency_s(result, "p99_s")),
    "missed_frac": Metric(
        About("missed", "%", "share of frames whose cloud answer arrived too late or never"),
        lambda result: _missed_frac(_total(result)),
    ),
    "bwt": Metric(
        About("BWT", "1", "backward transfer of the edge model over the drift segments, in mIoU"),
        lambda result: result["transfer"]["bwt"],
    ),
    "fwt": Metric(
        About("FWT", "1", "forward transfer of the edge model over the drift segments, in mIoU"),
        lambda result: result["transfer"]["fwt"],
    ),
}
RATIOS = ("miou", "up_bytes", "down_bytes", "p50_s", "p95_s", "p99_s")
"""Metrics whose ratio to a reference is reported."""


@dataclass(frozen=True)
class Row:
    """One strategy."""

    strategy: str = field(metadata=about("strategy"))
    values: dict[str, dict[str, float]] = field(metadata=about("values", hidden=True))
    """By metric and seed; metrics that a stream does not give, such as mIoU without labels, are missing."""
    spreads: dict[str, Spread] = field(
        metadata=about("", keys={name: metric.about for name, metric in METRICS.items()})
    )
    """By metric."""
    segment_miou: dict[str, Spread] = field(metadata=about("", unit="1", best="max", hidden=True))
    """mIoU by drift segment, in order of appearance."""


@dataclass(frozen=True)
class Versus:
    """A strategy against a reference in one metric."""

    strategy: str = field(metadata=about("strategy"))
    reference: str = field(metadata=about("reference"))
    metric: str = field(metadata=about("metric"))
    num_seeds: int = field(metadata=about("common seeds"))
    difference: Spread = field(metadata=about("difference", meaning="strategy minus reference"))
    ratio: Spread | None = field(metadata=about("ratio", meaning="strategy divided by reference"))
    """None where the reference is 0 on some seed."""


@dataclass(frozen=True)
class CompareReport:
    """Outcome of a comparison."""

    interrupted: bool = field(metadata=about("interrupted", meaning="some runs are missing"))
    """Whether some runs are missing."""
    seeds: tuple[int, ...] = field(metadata=about("seeds"))
    """Seeds of the comparison."""
    rows: tuple[Row, ...] = field(metadata=about("strategies"))
    """One row per strategy."""
    versus: tuple[Versus, ...] = field(metadata=about("against references"))
    """Differences and ratios to the reference strategies, paired by seed."""
    failures: dict[str, str] = field(metadata=about("failed runs"))
    """Reason by STRATEGY-SEED."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        document: dict[str, Any] = plain(self, {"mean": "mean", "minimum": "minimum", "maximum": "maximum"})
        return document


def compare_report(
    results: Results,
    *,
    seeds: Sequence[int],
    against: Sequence[str],
    failures: Mapping[str, str],
    interrupted: bool = False,
) -> CompareReport:
    """Compare the reports of single runs.

    Args:
        results: Results by strategy and seed, at least one; strategies in the order of the rows.
        seeds: All seeds of the comparison.
        against: Names of the reference strategies.
        failures: Reason by run that failed.
        interrupted: Whether some runs are missing.
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
        name: {str(seed): float(value) for seed, result in by_seed.items() if (value := metric.of(result)) is not None}
        for name, metric in METRICS.items()
    }
    values = {name: found for name, found in values.items() if found}
    segments: dict[str, list[float]] = {}
    for result in by_seed.values():
        for segment in result["evaluation"]["segments"]:
            quality = segment["quality"]
            if quality is not None:
                segments.setdefault(segment["name"], []).append(quality["miou"])
    return Row(
        strategy=strategy,
        values=values,
        spreads={name: Spread.of(list(found.values())) for name, found in values.items()},
        segment_miou={name: Spread.of(found) for name, found in segments.items()},
    )


def _versus(ours: Row, theirs: Row) -> list[Versus]:
    """Return the comparison in every metric that both have on a common seed."""
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


def _total(result: Result) -> Mapping[str, Any]:
    total: Mapping[str, Any] = result["evaluation"]["total"]
    return total


def _quality(result: Result, name: str) -> float | None:
    quality = _total(result)["quality"]
    return None if quality is None else quality[name]


def _latency_s(result: Result, name: str) -> float | None:
    latency = result["evaluation"]["latency"]
    return None if latency is None else latency[name]


def _missed_frac(total: Mapping[str, Any]) -> float:
    return total["num_missed"] / total["num_frames"] if total["num_frames"] else 0.0
