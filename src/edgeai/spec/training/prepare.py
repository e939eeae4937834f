"""Preparation of a training run: target, texts, features, initial head and number formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from edgeai.core.device import bf16_gain
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.core.units import amount
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.data.conversation import Conversation, check_answers, load_conversations
from edgeai.spec.data.features import CachedFeatures, FeatureSource, OnlineFeatures, cache_bytes, cache_features
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.head import DraftHead, HeadShape, draft_vocabulary, initialize
from edgeai.spec.draft.rope import rope_of
from edgeai.spec.target.build import build_target
from edgeai.spec.target.loading import model_config
from edgeai.spec.target.protocol import Target
from edgeai.spec.training.distributed import Ranks


@dataclass(frozen=True)
class Prepared:
    """Inputs of the training loop."""

    target: Target
    train: list[Conversation]
    val: list[Conversation]
    train_features: FeatureSource
    val_features: FeatureSource
    head: DraftHead
    coverage_frac: float


def settle_target(
    cfg: TrainConfig, run: Run, ranks: Ranks, *, aux_layers: tuple[int, ...] | None = None
) -> tuple[Target, dict[str, str]]:
    """Load the target, and choose its runtime, its number format and those of the head's training.

    Auto depends on timings and on what the machine has, which may differ next time, so rank 0 decides once per run and
    keeps the choice in formats.json.

    Args:
        cfg: Configuration of the run.
        run: Run directory.
        ranks: Rank of this process and number of processes; the others wait until rank 0 has converted the model.
        aux_layers: Feature layers; None selects the usual ones.

    Returns:
        The target and the choices: "runtime", and the number formats "target", "products" (matrix products of the head)
        and "muon" (Muon's orthogonalization).

    Raises:
        UsageError: The run began on the native runtime, which cannot run here.
    """
    file = run.path / "formats.json"
    formats: dict[str, str] = {}
    if ranks.is_first and file.exists():
        early = {"runtime": "torch", "muon": "bfloat16"}  # the only ones of versions without the choice
        formats = {**early, **json.loads(file.read_text(encoding="utf-8"))}
    elif ranks.is_first:
        target = build_target(cfg.target, device=run.device, metrics=run.metrics, aux_layers=aux_layers)
        device_kind = torch.device(run.device).type
        fast_bf16 = device_kind == "cuda" or (device_kind == "cpu" and bf16_gain() > 1.2)
        formats = {
            "runtime": target.runtime,
            "target": str(target.dtype).removeprefix("torch."),
            "products": "bfloat16" if cfg.optim.autocast and fast_bf16 else "float32",
            "muon": "float32" if device_kind == "cpu" and not fast_bf16 else "bfloat16",
        }
        write_whole(file, json.dumps(formats))
        ranks.share(formats)
        return target, formats
    formats = ranks.share(formats)
    return load_settled(cfg.target, formats, run, aux_layers=aux_layers), formats


def load_settled(
    config: TargetConfig, formats: Mapping[str, str], run: Run, *, aux_layers: tuple[int, ...] | None = None
) -> Target:
    """Load the target of a run again.

    Args:
        config: Target of the run's config.
        formats: Choices of `settle_target`.
        run: Run with its device and metrics.
        aux_layers: Feature layers; None selects the usual ones.

    Raises:
        UsageError: The run began on the native runtime, which cannot run here.
    """
    settled = config.model_copy(update={"dtype": formats["target"], "runtime": formats["runtime"]})
    try:
        return build_target(settled, device=run.device, metrics=run.metrics, aux_layers=aux_layers)
    except UsageError as error:
        if config.runtime != "auto" or formats["runtime"] != "native":
            raise
        hint = "`edgeai doctor` says what it needs; or begin a new run"
        raise UsageError(f"the run began on the native runtime: {error.message}", hint=hint) from error


def prepare(cfg: TrainConfig, run: Run, ranks: Ranks, target: Target) -> Prepared:
    """Prepare texts, features and the initial head. Rank 0 writes missing files, the other ranks read them.

    Args:
        cfg: Configuration of the run.
        run: Run directory.
        ranks: Rank of this process and number of processes.
        target: Target with the feature layers of the config.
    """
    if ranks.is_first:
        note_export(cfg.target.model, run.metrics)
    answers = cfg.data.answers or run.path / "answers.jsonl"
    if ranks.is_first and not cfg.data.answers:
        write_conversations(target, cfg.data, path=answers, seed=cfg.seed, metrics=run.metrics)
    ranks.wait()
    conversations = usable_conversations(answers)
    check_answers(answers, conversations, target)
    train, val = split(conversations, cfg.data.val_frac)
    head, coverage = build_head(cfg, target, train)
    target = target.with_aux_layers(head.shape.aux_layers)
    run.metrics.note(
        f"{len(train)} conversations, {sum(c.num_answer_tokens for c in train):,} answer tokens; head of "
        f"{head.num_parameters():,} parameters; draft vocabulary {head.shape.draft_vocab_size} covers {coverage:.1%}"
    )
    if cfg.data.features == "online":
        return Prepared(target, train, val, OnlineFeatures(target, train), OnlineFeatures(target, val), head, coverage)
    if ranks.is_first:
        run.metrics.note(f"target features take {amount(cache_bytes(target, train + val), 'B')} on disk")
    cached_train, cached_val = (
        _cached_features(cfg, run, ranks, target, part, name) for part, name in ((train, "train"), (val, "val"))
    )
    return Prepared(target, train, val, cached_train, cached_val, head, coverage)


def note_export(model: str, metrics: Metrics) -> None:
    """Say in advance if a head for this target cannot be exported, because no format can describe its positions."""
    try:
        rope_of(model_config(model, metrics), of=model)
    except EdgeAIError as error:
        metrics.note(f"a head for this target cannot be exported to other servers: {error.message}")


def _cached_features(
    cfg: TrainConfig, run: Run, ranks: Ranks, target: Target, conversations: Sequence[Conversation], name: str
) -> CachedFeatures:
    """Write the features of a part of the conversations if they are missing, and open them."""
    folder = (cfg.data.features_dir or run.path / "features") / name
    if ranks.is_first:
        batch_tokens = cfg.optim.batch_tokens
        cache_features(target, conversations, folder=folder, batch_tokens=batch_tokens, metrics=run.metrics)
    ranks.wait()
    return CachedFeatures(folder, conversations, target.device)


def usable_conversations(answers: Path) -> list[Conversation]:
    """Return the conversations of a file that can be trained on, in the order of their ids.

    Raises:
        UsageError: There is none.
    """
    conversations = sorted((c for c in load_conversations(answers) if c.num_answer_tokens > 2), key=lambda c: c.id)
    if not conversations:
        raise UsageError(f"{answers} contains no answers", hint="delete the file to let the target write them")
    return conversations


def split(conversations: Sequence[Conversation], val_frac: float) -> tuple[list[Conversation], list[Conversation]]:
    """Split conversations into training and validation, at least one of each, independent of the seed of the run."""
    if len(conversations) < 2:
        raise UsageError("one conversation cannot be split into training and validation", hint="give more prompts")
    order = np.random.default_rng((0, 1)).permutation(len(conversations))
    num_val = max(1, round(val_frac * len(conversations)))
    return [conversations[i] for i in order[num_val:]], [conversations[i] for i in order[:num_val]]


def build_head(cfg: TrainConfig, target: Target, train: Sequence[Conversation]) -> tuple[DraftHead, float]:
    """Build a new head or load the given one; also returns the share of answer tokens in its draft vocabulary."""
    counts = torch.zeros(target.shape.vocab_size, dtype=torch.long)
    for conversation in train:
        for begin, end in conversation.answers:
            counts += torch.bincount(torch.tensor(conversation.ids[begin:end]), minlength=counts.shape[0])
    if cfg.init_from:
        head, _ = load_head(cfg.init_from, target)
    else:
        s = target.shape
        if not all(a < b for a, b in pairwise((-1, *target.aux_layers, s.num_layers))):
            raise UsageError(
                f"feature layers {target.aux_layers} are not three ascending ones of the {s.num_layers} layers of "
                f"{target.name}",
                hint="set head.aux_layers to states entering layers 0 and up",
            )
        size = min(cfg.head.draft_vocab, s.vocab_size)
        shape = HeadShape(
            hidden_size=s.hidden_size,
            target_hidden_size=s.hidden_size,
            intermediate_size=cfg.head.intermediate_size or s.intermediate_size,
            num_heads=s.num_heads,
            num_kv_heads=s.num_kv_heads,
            head_dim=s.head_dim,
            rms_norm_eps=s.rms_norm_eps,
            vocab_size=s.vocab_size,
            draft_vocab_size=size,
            aux_layers=target.aux_layers,
            fc_norm=cfg.head.fc_norm,
            norm_output=cfg.head.norm_output,
        )
        head = DraftHead(shape, draft_vocabulary(counts, size))
        initialize(head, lm_head=target.lm_head.cpu())
    coverage = float(counts[head.t2d.cpu()].sum() / counts.sum())
    return head.to(target.device), coverage
