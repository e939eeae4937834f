"""`edgeai spec compare`: train variants with several seeds, and measure all heads on the same texts.

The target answers every prompt once. What decoding these answers with a head would accept follows from the text and the
head's trees (`replay.py`), so all heads are compared on the same tokens and no target pass depends on a head.

Run directory: VARIANT-SEED/ (a run of `spec train` each), answers.jsonl (what the target wrote for training, if no
answers were given), features/ (that the trainings share), texts.jsonl (the target's answers to the prompts),
accept_len.png and .svg (validation text over the optimiser steps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.core.report.plot import save_lines
from edgeai.core.run import Run
from edgeai.core.sweep import all_failed
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.answers import Conversation, Job, decode_jobs, load_conversations, write_conversations
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select
from edgeai.spec.decoding.decode import check_room
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.eagle3 import HeadLayer, check_fit
from edgeai.spec.evaluation.compare_report import ComparePlan, CompareReport, PlannedHead, TreeShape
from edgeai.spec.evaluation.compare_statistics import Counts, cells, costs, curve_of
from edgeai.spec.evaluation.contenders import Contender, contenders, train_missing
from edgeai.spec.evaluation.replay import Passage, replay
from edgeai.spec.target.loading import load_target
from edgeai.spec.target.target import DecoderTarget, Target
from edgeai.spec.training.distributed import ALONE
from edgeai.spec.training.plan import count_steps
from edgeai.spec.training.prepare import settle_formats

Texts = dict[tuple[str, float], list[Conversation]]
"""Answers by benchmark and temperature, in the order of the prompts; several to each where they are sampled."""


def plan_compare(cfg: CompareConfig, out: Path) -> ComparePlan:
    """Work out a plan without loading the model.

    Raises:
        UsageError: As `run_compare` for heads, runs and prompts.
    """
    heads = contenders(cfg, out)
    steps: dict[str, int | None] = {}
    for head in heads:  # other seeds have as many steps, or one micro-batch more or less
        if head.variant not in steps:
            phases = count_steps(head.train) if head.train else (0, 0)
            steps[head.variant] = sum(phases) if phases else None
    missing = [steps[head.variant] for head in heads if not head.is_done]
    num_prompts = sum(len(prompts) for prompts in _benchmarks(cfg).values())
    num_texts = num_prompts * sum(_samples(cfg, temperature) for temperature in cfg.temperatures)
    return ComparePlan(
        heads=tuple(PlannedHead(h.name, str(h.path), h.is_done, steps[h.variant]) for h in heads),
        num_trainings=len(missing),
        num_steps=None if None in missing else sum(n or 0 for n in missing),
        num_texts=num_texts,
        num_replays=num_texts * len(heads) * len(cfg.trees),
    )


def run_compare(cfg: CompareConfig, run: Run) -> CompareReport:
    """Train what is missing, measure every head, and hold the variants against the baseline.

    Args:
        cfg: What to compare.
        run: Run directory, of which a part may be there already.

    Raises:
        UsageError: A given head or run that cannot be used, no such prompts.
        EdgeAIError: All trainings failed and no head was given.
    """
    heads = contenders(cfg, run.path)
    baseline, benchmarks = heads[0].variant, _benchmarks(cfg)
    model = TargetConfig(model=cfg.train.target.model, dtype=settle_formats(cfg.train, run, ALONE)["target"])
    texts = _write_all_texts(cfg, run, model, heads, benchmarks)
    failures = train_missing(heads, run)
    heads = [head for head in heads if head.is_done]
    if not heads:
        raise all_failed(failures, hint=f"continue with --resume {run.path}")
    curves = [curve for curve in (curve_of(group) for group in _by_variant(heads).values()) if curve]
    target = load_target(model, device=run.device, metrics=run.metrics)
    measured = _measure(cfg, target, heads, texts, run.metrics)
    if curves:
        tree = TreeShape.of(cfg.train.val_tree)
        save_lines(
            [run.path / f"accept_len.{suffix}" for suffix in ("png", "svg")],
            curves,
            title=f"Validation text, {tree}\nline: mean over seeds, band: lowest to highest",
            x_label="optimiser steps",
            y_label="accept_len (tokens per cycle)",
        )
    return CompareReport(
        target=target.name,
        dtype=str(target.dtype).removeprefix("torch."),
        baseline=baseline,
        num_prompts={name: len(prompts) for name, prompts in benchmarks.items()},
        max_tokens=cfg.max_tokens,
        heads={head.name: str(head.path) for head in heads},
        cells=cells(measured, baseline),
        costs=costs(_by_variant(heads), baseline),
        curves=tuple(curves),
        failures=failures,
    )


def _by_variant(heads: Sequence[Contender]) -> dict[str, list[Contender]]:
    names = dict.fromkeys(head.variant for head in heads)
    return {name: [head for head in heads if head.variant == name] for name in names}


# --------------------------------------------------------------------------------------------------------------------
# Texts


def _benchmarks(cfg: CompareConfig) -> dict[str, list[Prompt]]:
    found = {name: load_prompts(file) for name, file in cfg.prompts.items()} or {"built-in": builtin_prompts()}
    return {name: select(prompts, cfg.max_prompts) for name, prompts in found.items()}


def _samples(cfg: CompareConfig, temperature: float) -> int:
    """Greedy answers are all the same."""
    return cfg.samples if temperature > 0 else 1


def _write_all_texts(
    cfg: CompareConfig,
    run: Run,
    model: TargetConfig,
    heads: Sequence[Contender],
    benchmarks: Mapping[str, Sequence[Prompt]],
) -> Texts:
    """What the target writes, for training and for measuring; given heads are looked at before anything is written."""
    target = load_target(model, device=run.device, metrics=run.metrics)
    for head in heads:
        if head.train is None:
            load_head(head.path, target)
    answers = run.path / "answers.jsonl"
    if any(head.train and head.train.data.answers == answers and not head.is_done for head in heads):
        write_conversations(target, cfg.train.data, path=answers, seed=cfg.train.seed, metrics=run.metrics)
    return write_texts(cfg, target, benchmarks, run.path / "texts.jsonl", run.metrics)


def write_texts(
    cfg: CompareConfig,
    target: Target,
    benchmarks: Mapping[str, Sequence[Prompt]],
    path: Path,
    metrics: Metrics,
) -> Texts:
    """The target's answers to the prompts, read from the file if they are there.

    Raises:
        UsageError: A prompt does not fit the model.
    """
    jobs: dict[str, Job] = {}
    places: dict[tuple[str, float], list[str]] = {}
    for bench, (name, prompts) in enumerate(benchmarks.items()):
        for temperature in cfg.temperatures:
            for number, prompt in enumerate(prompts):
                ids = tuple(chat_ids(target.tokenizer, prompt.turns[0]))
                room = check_room(target, len(ids), target.shape.max_positions)
                for sample in range(_samples(cfg, temperature)):
                    key = f"{name} {prompt.id} at {temperature:g}, sample {sample}"
                    seed = (bench, number, sample)
                    jobs[key] = Job(len(jobs), ids, min(cfg.max_tokens, room), temperature, seed)
                    places.setdefault((name, temperature), []).append(key)
    done = {text.id: text for text in load_conversations(path)} if path.exists() else {}
    if not all(key in done and done[key].ids[: len(job.prompt)] == job.prompt for key, job in jobs.items()):
        done = {}
        keys = list(jobs)

        def on_done(job: Job, new: list[int]) -> None:
            span = (len(job.prompt), len(job.prompt) + len(new))
            text = Conversation(keys[job.key], (*job.prompt, *new), (span,), job.temperature)
            done[text.id] = text
            metrics.progress("texts", len(done), len(jobs), unit="texts")

        decode_jobs(target, list(jobs.values()), batch=cfg.train.data.batch, on_done=on_done)
        write_whole(path, "".join(done[key].to_json() + "\n" for key in keys))
    return {place: [done[key] for key in keys] for place, keys in places.items()}


# --------------------------------------------------------------------------------------------------------------------
# Measuring


def _measure(
    cfg: CompareConfig, target: DecoderTarget, heads: Sequence[Contender], texts: Texts, metrics: Metrics
) -> list[Counts]:
    """Every head on every text with every tree."""
    layers: list[tuple[Contender, HeadLayer]] = []
    for head in heads:
        weights, _ = load_head(head.path, target)
        target.aux_layers = weights.shape.aux_layers
        check_fit(weights, target)
        layers.append((head, HeadLayer(weights, target.embedding)))
    found: list[Counts] = []
    total = len(texts) * len(heads) * len(cfg.trees)
    for (benchmark, temperature), talks in texts.items():
        for aux_layers in dict.fromkeys(layer.shape.aux_layers for _, layer in layers):
            target.aux_layers = aux_layers
            passages = [_passage(target, talk, cfg.max_tokens) for talk in talks]
            for head, layer in layers:
                if layer.shape.aux_layers != aux_layers:
                    continue
                for tree in cfg.trees:
                    cycles = replay(layer, target, passages, tree)
                    tokens, counts = ([f(each) for each in cycles] for f in (sum, len))
                    num_samples = _samples(cfg, temperature)
                    by_prompt = (np.array(v).reshape(-1, num_samples).sum(1) for v in (tokens, counts))
                    shape = TreeShape.of(tree)
                    found.append(Counts(head.variant, head.seed, benchmark, temperature, shape, *by_prompt))
                    metrics.progress("replay", len(found), total, unit="sets")
    return found


def _passage(target: Target, talk: Conversation, max_tokens: int) -> Passage:
    """A text with features: one pass of the target."""
    begin, end = talk.answers[0]
    features = target.prefill(talk.ids, target.new_cache(len(talk.ids))).features
    return Passage(talk.ids, features, begin, end, max_tokens)
