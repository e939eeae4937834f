"""Heads of a comparison: the list of variants and seeds, and the training of the missing ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeai.core.config import load_config
from edgeai.core.config.problems import nearest
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run
from edgeai.core.sweep import child_run
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.draft.head_files import find_head
from edgeai.spec.training.train import run_train


@dataclass(frozen=True)
class ComparedHead:
    """One head of a comparison."""

    variant: str
    seed: int | None
    """None for a given head without a seed."""
    path: Path
    """Run directory of the training, or checkpoint folder."""
    train: TrainConfig | None
    """Config of the training; None for a given head."""

    @property
    def name(self) -> str:
        """Variant and seed."""
        return self.variant if self.seed is None else f"{self.variant}-{self.seed}"

    @property
    def is_done(self) -> bool:
        """True if nothing is left to train."""
        return self.train is None or (_is_run(self.path) and Run.open(self.path).status == "done")

    def metrics(self) -> list[dict[str, float]]:
        """Return the rows that the training logged; empty for a checkpoint folder.

        Raises:
            UsageError: The metrics file is not readable.
        """
        path = self.path / "metrics.jsonl"
        try:
            rows = read_metrics(self.path)
        except (OSError, UnicodeDecodeError):
            rows = []
        is_readable = all(isinstance(row, dict) and {"step", "time_s"} <= row.keys() for row in rows)
        if path.exists() and not (rows and is_readable):
            raise UsageError(f"{path} contains no readable metrics", hint="leave this run out, or train it again")
        return rows


def compared_heads(cfg: CompareConfig, out: Path) -> list[ComparedHead]:
    """Return all heads of a comparison, grouped by variant, the baseline first.

    Args:
        cfg: Variants, seeds, given runs and baseline.
        out: Run directory of the comparison, which holds the trainings.

    Raises:
        UsageError: Lists all problems: no such head, a run of another verb, a run with another training config, no
            such baseline.
    """
    found: list[ComparedHead] = []
    problems: list[UsageError] = []
    for name, variant in cfg.variants.items():
        for seed in cfg.seeds if variant.head is None else (None,):
            try:
                found.append(_given(name, variant.head) if variant.head else _trained_here(cfg, name, seed or 0, out))
            except UsageError as problem:
                problems.append(problem)
    for path in cfg.runs:
        try:
            found.append(_given("", path))
        except UsageError as problem:
            problems.append(problem)
    found = _name_runs(found, taken=set(cfg.variants))
    names = list(dict.fromkeys(each.variant for each in found))
    if not problems and cfg.baseline is not None and cfg.baseline not in names:
        near = nearest(cfg.baseline, names)
        hint = f'did you mean "{near}"?' if near else f"variants: {', '.join(names)}"
        problems.append(UsageError(f'baseline: no variant "{cfg.baseline}"', hint=hint))
    if problems:
        raise UsageError("\n  ".join(problem.message for problem in problems), hint=problems[0].hint)
    return sorted(found, key=lambda each: each.variant != (cfg.baseline or names[0]))


def train_missing(heads: Sequence[ComparedHead], run: Run, *, runtime: str) -> dict[str, str]:
    """Train the heads that are missing, and continue interrupted trainings.

    Args:
        heads: All heads of the comparison.
        run: Run of the comparison; gives the device, and its listener receives the progress of the trainings.
        runtime: Runtime of the target in the trainings, instead of auto.

    Returns:
        Error messages of the failed trainings, by name; a failure does not stop the other trainings.
    """
    failures: dict[str, str] = {}
    for number, head in enumerate(heads, start=1):
        if head.is_done or head.train is None:
            continue
        run.metrics.note(f"training {head.name}, head {number} of {len(heads)}, in {head.path}")
        try:
            _train(_on_runtime(head.train, runtime, instead_of="auto"), head.path, run)
        except EdgeAIError as error:
            failures[head.name] = error.message
            run.metrics.note(f"{head.name} failed: {error.message}")
    return failures


def _train(cfg: TrainConfig, path: Path, run: Run) -> None:
    """Train one head in a run directory of its own, or continue its training."""
    place = {name: run.info[name] for name in ("argv", "device", "device_why", "threads")}
    is_resumed = _is_run(path)
    with child_run(cfg, path, listener=run.metrics.listener, **place) as child:
        child.finish("done", run_train(cfg, child, resume=is_resumed).to_json())


def _on_runtime(cfg: TrainConfig, runtime: str, *, instead_of: str | None = None) -> TrainConfig:
    """Return the config with another runtime, or unchanged if it does not have the one to be replaced."""
    if instead_of not in (None, cfg.target.runtime):
        return cfg
    return cfg.model_copy(update={"target": cfg.target.model_copy(update={"runtime": runtime})})


def _is_run(path: Path) -> bool:
    return (path / "run.json").exists()


def _trained_here(cfg: CompareConfig, name: str, seed: int, out: Path) -> ComparedHead:
    """Return the head of one training; trainings on the same text share the target's answers and features."""
    train = cfg.training_of(name, seed)
    path = out / f"{name}-{seed}"
    if train.data == cfg.train.data:
        data = train.data
        if data.answers is None:
            data = data.model_copy(update={"answers": out / "answers.jsonl"})
        same_features = (train.target, train.head.aux_layers) == (cfg.train.target, cfg.train.head.aux_layers)
        if data.features_dir is None and same_features:
            data = data.model_copy(update={"features_dir": out / "features"})
        train = train.model_copy(update={"data": data})
    if _is_run(path):
        before = _config_of(path)
        if train.target.runtime == "auto":  # the comparison chooses once for all trainings
            before = _on_runtime(before, "auto")
        if _essence(before) != _essence(train):
            raise UsageError(
                f"{path} has another training config: {_first_difference(before, train)}",
                hint="give the comparison another --out, or move the run",
            )
    elif train.init_from:
        find_head(train.init_from)
    return ComparedHead(name, seed, path, train)


def _given(name: str, path: Path) -> ComparedHead:
    """Return a given head, with its run's seed unless the variant is named in the config."""
    cfg = _config_of(path) if _is_run(path) else None
    find_head(path)
    head = ComparedHead(name, cfg.seed if cfg and not name else None, path, None)
    head.metrics()
    return head


def _config_of(path: Path) -> TrainConfig:
    verb = Run.open(path).info.get("verb")
    if verb != "spec train":
        raise UsageError(f"{path} is a run of `{verb}`, not of `spec train`", hint="give runs of `edgeai spec train`")
    return load_config(TrainConfig, path / "config.yaml")


def _name_runs(heads: Sequence[ComparedHead], taken: set[str]) -> list[ComparedHead]:
    """Name the given runs: runs whose configs differ only in the seed form one variant, named after the first run."""
    names: dict[str, str] = {}
    named = []
    for head in heads:
        if not head.variant:
            key = str(head.path.resolve())
            stem = head.path.resolve().name
            if head.seed is not None:
                key = _essence(_config_of(head.path).model_copy(update={"seed": 0})).model_dump_json()
                stem = re.sub(rf"[-_.]?(seed)?[-_.]?{head.seed}$", "", stem) or stem
            if key not in names:
                number, free = 2, stem
                while free in taken:
                    free, number = f"{stem}-{number}", number + 1
                names[key] = free
                taken.add(free)
            head = ComparedHead(names[key], head.seed, head.path, None)
        named.append(head)
    return named


def _essence(cfg: TrainConfig) -> TrainConfig:
    """Return the config without the keys that do not affect the result: features folder and spelling of paths."""

    def whole(path: Path | None) -> Path | None:
        return path.resolve() if path else None

    data = cfg.data.model_copy(update={"features_dir": None, "answers": whole(cfg.data.answers)})
    return cfg.model_copy(update={"data": data, "init_from": whole(cfg.init_from)})


def _first_difference(before: TrainConfig, now: TrainConfig) -> str:
    ours, theirs = (_leaves(_essence(cfg).model_dump(mode="json")) for cfg in (now, before))
    key = next(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return f"{key} was {theirs.get(key)} and is now {ours.get(key)}"


def _leaves(tree: object, above: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {above.rstrip("."): tree}
    return {key: value for name, part in tree.items() for key, value in _leaves(part, f"{above}{name}.").items()}
