"""What a comparison finds out, and how it is worked out from cycles per prompt.

Definitions:
- accept_len of a head: tokens / cycles over all texts, as in `decode.py`;
- ratio to the baseline: accept_len / the baseline's, of heads trained with the same seed; a head that has no seed is
  paired with all of the other variant;
- interval: prompts are drawn anew, with repeats, many times; 95 % of the mean ratios over the pairs lie inside. It says
  what other prompts would change, minimum and maximum over the seeds what other trainings would;
- step_s: median time between optimiser steps, validations left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeai.core.report.plot import Line
from edgeai.spec.config.draft import TreeConfig


@dataclass(frozen=True)
class PlannedHead:
    """One head of a comparison."""

    name: str
    path: str
    is_done: bool
    """Nothing is left to train."""
    num_steps: int | None
    """Optimiser steps of its training; None where the text is not written yet, 0 for a given head."""


@dataclass(frozen=True)
class ComparePlan:
    """What a comparison would do."""

    heads: tuple[PlannedHead, ...]
    num_trainings: int
    num_steps: int | None
    """Optimiser steps of all trainings that are left, of interrupted ones too; None if one of them is not known."""
    num_texts: int
    """Answers of the target."""
    num_replays: int
    """Text, head and tree."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TreeShape:
    """A tree, in words."""

    nodes: int
    depth: int
    top_k: int

    @classmethod
    def of(cls, tree: TreeConfig) -> TreeShape:
        """Of a config."""
        return cls(tree.nodes, tree.depth, tree.top_k)

    def __str__(self) -> str:
        return f"tree of {self.nodes} nodes, depth {self.depth}, top-k {self.top_k}"


@dataclass(frozen=True)
class Ratio:
    """accept_len divided by the baseline's."""

    mean: float
    minimum: float
    maximum: float
    """Over pairs of heads, mostly one a seed."""
    low: float
    high: float
    """Interval over prompts."""


@dataclass(frozen=True)
class Cell:
    """One variant on one benchmark at one temperature with one tree."""

    benchmark: str
    temperature: float
    tree: TreeShape
    variant: str
    accept_len: dict[str, float]
    """By seed; "-" is a given head."""
    mean: float
    minimum: float
    maximum: float
    ratio: Ratio | None
    """None for the baseline itself, and where no head of it can be paired."""


@dataclass(frozen=True)
class TrainingCost:
    """What an optimiser step takes."""

    variant: str
    step_s: float
    ratio: float | None
    """To the baseline's; None if that was not trained."""


@dataclass(frozen=True)
class CompareReport:
    """Outcome of a comparison; definitions are the module's."""

    target: str
    dtype: str
    baseline: str
    num_prompts: dict[str, int]
    """By benchmark."""
    max_tokens: int
    heads: dict[str, str]
    """Where each head that was measured is."""
    cells: tuple[Cell, ...]
    costs: tuple[TrainingCost, ...]
    curves: tuple[Line, ...]
    """accept_len of validation text over optimiser steps, mean over seeds with lowest and highest."""
    failures: dict[str, str]
    """Trainings that failed, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
