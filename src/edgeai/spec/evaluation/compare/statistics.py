"""Statistics of a comparison from emitted tokens and cycles per prompt; definitions in `report.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeai.core.report.plot import Line
from edgeai.spec.draft.tree import Array
from edgeai.spec.evaluation.compare.heads import ComparedHead
from edgeai.spec.evaluation.compare.report import Cell, Ratio, TrainingCost, TreeShape

NUM_DRAWS = 2000
COVERAGE_FRAC = 0.95


@dataclass(frozen=True)
class Counts:
    """Emitted tokens and cycles of one head on one benchmark at one temperature with one tree."""

    variant: str
    seed: int | None
    benchmark: str
    temperature: float
    tree: TreeShape
    tokens: Array  # [prompts], emitted by cycles
    cycles: Array  # [prompts]


def cells(measured: Sequence[Counts], baseline: str) -> tuple[Cell, ...]:
    """Return one cell for each benchmark, temperature, tree and variant, in this order."""
    rows = dict.fromkeys((c.benchmark, c.temperature, c.tree) for c in measured)
    variants = dict.fromkeys(c.variant for c in measured)
    found = []
    for benchmark, temperature, tree in rows:
        here = [c for c in measured if (c.benchmark, c.temperature, c.tree) == (benchmark, temperature, tree)]
        reference = [c for c in here if c.variant == baseline]
        for variant in variants:
            ours = [c for c in here if c.variant == variant]
            lens = {_seed(c): float(_accept_len(c.tokens.sum(), c.cycles.sum())) for c in ours}
            found.append(
                Cell(
                    benchmark=benchmark,
                    temperature=temperature,
                    tree=tree,
                    variant=variant,
                    accept_len=lens,
                    mean=float(np.mean([*lens.values()])),
                    minimum=min(lens.values()),
                    maximum=max(lens.values()),
                    ratio=None if variant == baseline else ratio_of(ours, reference),
                )
            )
    return tuple(found)


def ratio_of(ours: Sequence[Counts], theirs: Sequence[Counts]) -> Ratio | None:
    """Return the accept_len ratio over pairs of heads with the same seed; None if there are no pairs.

    Each bootstrap sample draws the same prompts for both heads of a pair and for all pairs.
    """
    pairs = [(a, b) for a in ours for b in theirs if a.seed == b.seed or None in (a.seed, b.seed)]
    if not pairs:
        return None
    num_prompts = len(pairs[0][0].tokens)
    draws = np.random.default_rng(0).multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), NUM_DRAWS)
    once = np.vstack([np.ones(num_prompts, dtype=np.int64), draws])  # first row: every prompt once
    ratios = np.array(
        [
            _accept_len(once @ a.tokens, once @ a.cycles) / _accept_len(once @ b.tokens, once @ b.cycles)
            for a, b in pairs
        ]
    )  # [pairs, 1 + draws]
    tail = (1 - COVERAGE_FRAC) / 2
    low, high = np.quantile(ratios[:, 1:].mean(0), [tail, 1 - tail])
    at = ratios[:, 0]
    return Ratio(float(at.mean()), float(at.min()), float(at.max()), float(low), float(high))


def _accept_len(tokens: Array, cycles: Array) -> Array:
    """Divide tokens by cycles; 1 where there was no cycle."""
    return np.where(cycles > 0, tokens / np.maximum(cycles, 1), 1.0)


def _seed(counts: Counts) -> str:
    return "-" if counts.seed is None else str(counts.seed)


def costs(variants: Mapping[str, Sequence[ComparedHead]], baseline: str) -> tuple[TrainingCost, ...]:
    """Return the training cost of every variant with training runs."""
    steps = {name: [t for head in heads for t in step_times_s(head.metrics())] for name, heads in variants.items()}
    medians = {name: float(np.median(times)) for name, times in steps.items() if times}
    reference = medians.get(baseline)
    return tuple(
        TrainingCost(name, step_s, step_s / reference if reference else None) for name, step_s in medians.items()
    )


def step_times_s(rows: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the time between consecutive logged optimizer steps, without those that include a validation."""
    validated = {row["step"] for row in rows if "val_tree_accept_len" in row}
    steps = [(row["step"], row["time_s"]) for row in rows if "lr" in row]
    return [
        after - before
        for (step, before), (next_, after) in pairwise(steps)
        if next_ == step + 1 and step not in validated
    ]


def curve_of(heads: Sequence[ComparedHead]) -> Line | None:
    """Return accept_len on validation text over the steps at which all seeds of a variant were validated."""
    found = []
    for head in heads:
        curve = {int(row["step"]): row["val_tree_accept_len"] for row in head.metrics() if "val_tree_accept_len" in row}
        if curve:
            found.append(curve)
    steps = sorted(set.intersection(*(set(curve) for curve in found))) if found else []
    if not steps:
        return None
    values = np.array([[curve[step] for step in steps] for curve in found])
    mean, low, high = (tuple(part.tolist()) for part in (values.mean(0), values.min(0), values.max(0)))
    return Line(heads[0].variant, tuple(map(float, steps)), mean, low, high)
