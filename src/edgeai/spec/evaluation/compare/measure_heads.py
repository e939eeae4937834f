"""Replay of the texts of `spec compare` with every head and draft tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeai.core.metrics import Metrics
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.eagle3 import HeadLayer
from edgeai.spec.draft.head_checks import check_fit
from edgeai.spec.evaluation.acceptance_replay import Passage, replay
from edgeai.spec.evaluation.compare.heads import ComparedHead
from edgeai.spec.evaluation.compare.report import TreeShape
from edgeai.spec.evaluation.compare.statistics import Counts
from edgeai.spec.evaluation.compare.texts import TextSet
from edgeai.spec.target.protocol import Target


def measure_heads(
    cfg: CompareConfig,
    target: Target,
    heads: Sequence[ComparedHead],
    text_sets: Sequence[TextSet],
    metrics: Metrics,
) -> list[Counts]:
    """Replay every text set with every head and tree.

    Heads with the same feature layers share one target pass over each text.

    Args:
        cfg: Draft trees and answer length.
        target: The model that wrote the texts.
        heads: Trained or given heads.
        text_sets: The target's answers.
        metrics: Receives progress.
    """
    layers = [_load_layer(target, head) for head in heads]
    found: list[Counts] = []
    num_total = len(text_sets) * len(heads) * len(cfg.trees)
    for texts in text_sets:
        for aux_layers in dict.fromkeys(layer.shape.aux_layers for layer in layers):
            with_features = target.with_aux_layers(aux_layers)
            passages = [_passage(with_features, answer, cfg.max_tokens) for answer in texts.answers]
            for head, layer in zip(heads, layers, strict=True):
                if layer.shape.aux_layers != aux_layers:
                    continue
                for tree in cfg.trees:
                    accept_counts = replay(layer, target, passages, tree)
                    found.append(_counts(head, texts, TreeShape.of(tree), accept_counts))
                    metrics.progress("replay", len(found), num_total, unit="sets")
    return found


def _load_layer(target: Target, head: ComparedHead) -> HeadLayer:
    weights, _ = load_head(head.path, target)
    check_fit(weights, target)
    return HeadLayer(weights, target)


def _passage(target: Target, answer: Conversation, max_tokens: int) -> Passage:
    """Compute the features of a text in one target pass."""
    begin, end = answer.answers[0]
    features = target.prefill(answer.ids, target.new_cache(len(answer.ids))).features
    return Passage(answer.ids, features, begin, end, max_tokens)


def _counts(head: ComparedHead, texts: TextSet, tree: TreeShape, accept_counts: Sequence[tuple[int, ...]]) -> Counts:
    """Sum emitted tokens and cycles over the samples of each prompt."""
    tokens, cycles = (
        np.array([count(answer) for answer in accept_counts]).reshape(-1, texts.num_samples).sum(1)
        for count in (sum, len)
    )
    return Counts(head.variant, head.seed, texts.benchmark, texts.temperature, tree, tokens, cycles)
