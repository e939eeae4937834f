"""Comparison of the speculative answers of `spec bench` with the plain ones."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.core.metrics import Metrics
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.decoding.lossless import differences
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.evaluation.bench.repeats import Repeat
from edgeai.spec.evaluation.bench.report import AnswerDifference, Lossless
from edgeai.spec.target.protocol import Target


def compare_answers(
    cfg: BenchConfig, target: Target, drafter: Drafter, tree: TreeConfig, repeats: Sequence[Repeat], metrics: Metrics
) -> Lossless:
    """Compare the answers of all repeats; equal pairs of different repeats are examined once.

    Args:
        cfg: Sampling options, answer length and context of the answers.
        target: Target that decoded the answers.
        drafter: Drafter of the speculative answers.
        tree: Draft tree of the speculative answers.
        repeats: Plain and speculative answers.
        metrics: Receives progress.
    """
    pairs = {
        (ask.key, plain.ids, speculative.ids): (ask, plain, speculative)
        for repeat in repeats
        for ask, plain, speculative in zip(
            repeat.asks, repeat.plain.generations, repeat.measured.generations, strict=True
        )
    }
    unequal = {key: pair for key, pair in pairs.items() if key[1] != key[2]}
    found: list[AnswerDifference] = []
    for number, (ask, plain, speculative) in enumerate(unequal.values(), start=1):
        seen = differences(
            target,
            drafter,
            ask.ids,
            plain,
            speculative,
            tree=tree,
            sampling=cfg.sampling,
            max_tokens=cfg.max_tokens,
            context=cfg.context,
        )
        found += [AnswerDifference(ask.prompt, ask.turn, difference) for difference in seen]
        metrics.progress("compare unequal answers", number, len(unequal), unit="answers")
    num_answers = len({key[0] for key in pairs})
    num_ties = sum(entry.difference.is_tie for entry in found)
    return Lossless(
        ok=num_ties == len(found),
        num_answers=num_answers,
        num_equal=num_answers - len({key[0] for key in unequal}),
        num_ties=num_ties,
        num_mismatches=len(found) - num_ties,
        noise=max((entry.difference.noise for entry in found), default=0.0),
        differences=tuple(found),
    )
