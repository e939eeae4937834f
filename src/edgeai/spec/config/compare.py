"""Configuration of `edgeai spec compare`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config, with_changes
from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import TrainConfig


class Variant(Config):
    """One variant of a comparison: an existing head, or changes to the common training."""

    head: Path | None = None
    """Checkpoint folder, run directory or shipped name of an existing head; no training takes place."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of `train` with changed values, such as gto.lr: 2.0e-4; empty keeps the common training unchanged."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Variant:
        if self.head and self.set:
            raise ValueError("a variant is either an existing head or a training: remove head or set")
        return self


class CompareConfig(Config):
    """`edgeai spec compare`: train variants with several seeds and measure all heads on the same texts."""

    verb: Literal["spec compare"] = "spec compare"
    train: TrainConfig = TrainConfig()
    """Training shared by all variants; its seed is replaced by each of `seeds`."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """Variants by name; the name is also used for the run directories."""
    runs: tuple[Path, ...] = ()
    """Existing heads to measure as well; run directories whose configs differ only in the seed form one variant."""
    baseline: str | None = None
    """Variant that the others are compared with; empty selects the first."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Training seeds of each variant."""
    trees: tuple[TreeConfig, ...] = Field(
        default=(TreeConfig(nodes=5, depth=3, top_k=4), TreeConfig(nodes=59, depth=7, top_k=8)), min_length=1
    )
    """Trees whose accept_len is measured; the first is the one used in decoding."""
    temperatures: tuple[Annotated[float, Field(ge=0.0)], ...] = Field(default=(0.0, 1.0), min_length=1)
    """Sampling temperatures of the answers; 0 is greedy."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Prompt file of each benchmark by name; empty selects the built-in prompts."""
    max_prompts: int = Field(default=40, ge=1)
    """Number of prompts used per benchmark, evenly spaced over the file; only first turns are answered."""
    max_tokens: int = Field(default=128, ge=1)
    """Maximum number of tokens per answer."""
    samples: int = Field(default=1, ge=1)
    """Answers per prompt at temperatures above 0."""

    @model_validator(mode="after")
    def _variants_are_sound(self) -> CompareConfig:
        if not (self.variants or self.runs):
            raise ValueError("nothing to compare: set variants, or give run directories")
        problems = [
            f"variants.{name}: a name consists of letters, digits, . _ -"
            for name in self.variants
            if not _is_name(name)
        ]
        for name, variant in self.variants.items():
            for seed in self.seeds[: None if variant.head is None else 0]:
                try:
                    self.training_of(name, seed)
                except UsageError as error:
                    problems += [f"variants.{name}.set: {line}" for line in error.message.splitlines()]
                    break
        if self.baseline is not None and not self.runs and self.baseline not in self.variants:
            near = nearest(self.baseline, self.variants)
            problems.append(f'baseline: no variant "{self.baseline}"' + (f'; did you mean "{near}"?' if near else ""))
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    def training_of(self, name: str, seed: int) -> TrainConfig:
        """Return the training config of a variant and a seed.

        Raises:
            UsageError: The variant's changes are invalid; lists every problem.
        """
        return with_changes(self.train, {**_dotted(self.variants[name].set), "seed": seed})


def _dotted(changes: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested changes to dotted keys, so that keys not named keep their values."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        flat |= _dotted(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def _is_name(text: str) -> bool:
    """Return whether a text can be part of a folder name on every system."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text) is not None
