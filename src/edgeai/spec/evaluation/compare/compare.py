"""`edgeai spec compare`: train variants with several seeds, and measure all heads on the same texts.

The target answers every prompt once. The number of draft tokens that decoding would accept follows from these answers
and the head's trees (`acceptance_replay.py`): all heads are compared on the same tokens, and no target pass depends on
a head.

Run directory:
- VARIANT-SEED/: one run of `spec train` each;
- answers.jsonl: the target's answers for training, unless the config gives answers;
- features/: features shared by the trainings;
- texts.jsonl: the target's answers to the prompts;
- accept_len.png and .svg: accept_len on validation text over the optimizer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeai.core.report.plot import save_lines
from edgeai.core.run import Run
from edgeai.core.sweep import all_failed
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.evaluation.compare.heads import ComparedHead, compared_heads, train_missing
from edgeai.spec.evaluation.compare.measure_heads import measure_heads
from edgeai.spec.evaluation.compare.report import ComparePlan, CompareReport, PlannedHead, TreeShape
from edgeai.spec.evaluation.compare.statistics import cells, costs, curve_of
from edgeai.spec.evaluation.compare.texts import benchmarks, num_samples, write_texts
from edgeai.spec.target.protocol import Target
from edgeai.spec.training.distributed import ALONE
from edgeai.spec.training.plan import count_steps
from edgeai.spec.training.prepare import load_settled, settle_target


def plan_compare(cfg: CompareConfig, out: Path) -> ComparePlan:
    """Return the amount of work without loading the model.

    Args:
        cfg: Variants, seeds, given runs, prompts and trees.
        out: Run directory of the comparison; need not exist.

    Raises:
        UsageError: A given head or run cannot be used, or there are no such prompts.
    """
    heads = compared_heads(cfg, out)
    steps: dict[str, int | None] = {}
    for head in heads:
        if head.variant not in steps:  # other seeds differ by one micro-batch at most
            phases = count_steps(head.train) if head.train else (0, 0)
            steps[head.variant] = sum(phases) if phases else None
    missing = [steps[head.variant] for head in heads if not head.is_done]
    num_prompts = sum(len(prompts) for prompts in benchmarks(cfg).values())
    num_texts = num_prompts * sum(num_samples(cfg, temperature) for temperature in cfg.temperatures)
    return ComparePlan(
        heads=tuple(PlannedHead(h.name, str(h.path), h.is_done, steps[h.variant]) for h in heads),
        num_trainings=len(missing),
        num_steps=None if None in missing else sum(n or 0 for n in missing),
        num_texts=num_texts,
        num_replays=num_texts * len(heads) * len(cfg.trees),
    )


def run_compare(cfg: CompareConfig, run: Run) -> CompareReport:
    """Train the missing heads, measure all heads, and compare the variants with the baseline.

    Args:
        cfg: Variants, seeds, given runs, prompts and trees.
        run: Run directory of the comparison; completed trainings and texts in it are reused.

    Raises:
        UsageError: A given head or run cannot be used, or there are no such prompts.
        EdgeAIError: All trainings failed and no head was given.
    """
    heads = compared_heads(cfg, run.path)
    baseline, prompts_of = heads[0].variant, benchmarks(cfg, on_skip=run.metrics.note)
    target, formats = settle_target(cfg.train, run, ALONE)
    _prepare_training(cfg, run, target, heads)
    texts = write_texts(cfg, target, prompts_of, run.path / "texts.jsonl", run.metrics)
    del target  # each training loads its own
    failures = train_missing(heads, run, runtime=formats["runtime"])
    heads = [head for head in heads if head.is_done]
    if not heads:
        raise all_failed(failures, hint=f"continue with --resume {run.path}")
    curves = [curve for curve in (curve_of(group) for group in _by_variant(heads).values()) if curve]
    target = load_settled(cfg.train.target, formats, run)
    measured = measure_heads(cfg, target, heads, texts, run.metrics)
    if curves:
        tree = TreeShape.of(cfg.train.val_tree)
        save_lines(
            [run.path / f"accept_len.{suffix}" for suffix in ("png", "svg")],
            curves,
            title=f"Validation text, {tree}\nline: mean over seeds, band: minimum to maximum",
            x_label="optimizer steps",
            y_label="accept_len (tokens per cycle)",
        )
    return CompareReport(
        target=target.name,
        dtype=str(target.dtype).removeprefix("torch."),
        runtime=target.runtime,
        baseline=baseline,
        num_prompts={name: len(prompts) for name, prompts in prompts_of.items()},
        max_tokens=cfg.max_tokens,
        heads={head.name: str(head.path) for head in heads},
        cells=cells(measured, baseline),
        costs=costs(_by_variant(heads), baseline),
        curves=tuple(curves),
        failures=failures,
    )


def _by_variant(heads: Sequence[ComparedHead]) -> dict[str, list[ComparedHead]]:
    names = dict.fromkeys(head.variant for head in heads)
    return {name: [head for head in heads if head.variant == name] for name in names}


def _prepare_training(cfg: CompareConfig, run: Run, target: Target, heads: Sequence[ComparedHead]) -> None:
    """Check that the given heads fit the target, and write the training answers if a training needs them."""
    for head in heads:
        if head.train is None:
            load_head(head.path, target)
    answers = run.path / "answers.jsonl"
    if any(head.train and head.train.data.answers == answers and not head.is_done for head in heads):
        write_conversations(target, cfg.train.data, path=answers, seed=cfg.train.seed, metrics=run.metrics)
