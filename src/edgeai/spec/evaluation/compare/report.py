"""Records of `edgeai spec compare`. Imports no torch.

Definitions:
- accept_len of a head: tokens / cycles over all texts, as in `decode.py`;
- ratio to the baseline: accept_len / the baseline's accept_len, for heads trained with the same seed; a head without a
  seed is paired with all heads of the other variant;
- interval: bootstrap over prompts; contains 95 % of the mean ratios over the pairs. It shows the effect of other
  prompts; minimum and maximum over the seeds show the effect of other trainings;
- step_s: median time between optimizer steps, without validations.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from edgeai.core.report.fields import About, about
from edgeai.core.report.plot import Line
from edgeai.spec.config.draft import TreeConfig


@dataclass(frozen=True)
class PlannedHead:
    """One head of a comparison."""

    name: str = field(metadata=about("head"))
    path: str = field(metadata=about("folder"))
    is_done: bool = field(metadata=about("trained already"))
    num_steps: int | None = field(metadata=about("optimizer steps"))
    """None if the text is not written yet, 0 for a given head."""


@dataclass(frozen=True)
class ComparePlan:
    """The work of a comparison."""

    heads: tuple[PlannedHead, ...] = field(metadata=about("heads"))
    num_trainings: int = field(metadata=about("trainings"))
    num_steps: int | None = field(
        metadata=about("optimizer steps", meaning="left in all trainings; known once the texts are written")
    )
    num_texts: int = field(metadata=about("texts", meaning="answers of the target"))
    num_replays: int = field(metadata=about("replays", meaning="one for each text, head and tree"))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TreeShape:
    """Size of a draft tree."""

    nodes: int
    depth: int
    top_k: int

    @classmethod
    def of(cls, tree: TreeConfig) -> TreeShape:
        """Return the size of a configured tree."""
        return cls(tree.nodes, tree.depth, tree.top_k)

    def __str__(self) -> str:
        return f"tree of {self.nodes} nodes, depth {self.depth}, top-k {self.top_k}"


@dataclass(frozen=True)
class Ratio:
    """accept_len divided by the baseline's, of heads trained with the same seed."""

    mean: float = field(
        metadata=about(
            "ratio",
            unit="1",
            meaning="to the baseline, of heads with the same seed; mean (lowest to highest seed)",
        )
    )
    minimum: float = field(metadata=about("ratio, lowest seed", unit="1"))
    maximum: float = field(metadata=about("ratio, highest seed", unit="1"))
    low: float = field(metadata=about("95% interval, low", unit="1", meaning="of the mean ratio, prompts resampled"))
    high: float = field(metadata=about("95% interval, high", unit="1"))


@dataclass(frozen=True)
class Cell:
    """One variant on one benchmark at one temperature with one tree."""

    COMPUTED: ClassVar = {"interval": About("95% interval", meaning="of the mean ratio, with the prompts resampled")}

    benchmark: str = field(metadata=about("benchmark"))
    temperature: float = field(metadata=about("temperature"))
    tree: TreeShape = field(metadata=about("tree"))
    variant: str = field(metadata=about("variant"))
    accept_len: dict[str, float] = field(metadata=about("accept_len of seed", unit="1"))
    """By seed; "-" for a given head."""
    mean: float = field(
        metadata=about(
            "accept_len",
            unit="1",
            meaning="tokens per cycle, bonus token included; mean (lowest to highest seed)",
        )
    )
    minimum: float = field(metadata=about("accept_len, lowest seed", unit="1"))
    maximum: float = field(metadata=about("accept_len, highest seed", unit="1"))
    ratio: Ratio | None = field(metadata=about(""))
    """None for the baseline, and if no head of the baseline can be paired."""


@dataclass(frozen=True)
class TrainingCost:
    """Time of an optimizer step."""

    variant: str = field(metadata=about("variant"))
    step_s: float = field(metadata=about("optimizer step", best="min", meaning="median time, validations left out"))
    ratio: float | None = field(metadata=about("ratio", unit="1", best="min", meaning="to the baseline"))
    """None if the baseline was not trained."""


@dataclass(frozen=True)
class CompareReport:
    """Outcome of a comparison."""

    target: str = field(metadata=about("target"))
    dtype: str = field(metadata=about("number format"))
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    baseline: str = field(metadata=about("baseline"))
    num_prompts: dict[str, int] = field(metadata=about("prompts"))
    """By benchmark."""
    max_tokens: int = field(metadata=about("tokens per answer, at most"))
    heads: dict[str, str] = field(metadata=about("folder of", hidden=True))
    """Folder of each measured head by name."""
    cells: tuple[Cell, ...] = field(metadata=about("accept_len"))
    costs: tuple[TrainingCost, ...] = field(metadata=about("training"))
    curves: tuple[Line, ...] = field(metadata=about("curves"))
    """accept_len on validation text over optimizer steps: mean, minimum and maximum over seeds."""
    failures: dict[str, str] = field(metadata=about("failed", hidden=True))
    """Error messages of failed trainings, by name."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)
