"""Statistics of `spec bench` over the answers of all repeats."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeai.core.stats import Spread
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.evaluation.bench.repeats import DecoderAnswers, Repeat
from edgeai.spec.evaluation.bench.report import CycleTimes, PeerResult


def acceptance_by_depth(answers: DecoderAnswers) -> tuple[float, ...]:
    """Return the fraction of cycles that accepted a draft token of depth 1, 2, ..."""
    counts = [generation.accepted_at for generation in answers.generations]
    depth = max(map(len, counts), default=0)
    totals = [sum(at[place] for at in counts if place < len(at)) for place in range(depth)]
    return tuple(total / answers.num_cycles for total in totals)


def coverage_frac(drafter: Drafter | None, generations: Sequence[Generation]) -> float | None:
    """Return the fraction of generated tokens in the draft vocabulary; None if that is the target's vocabulary."""
    vocabulary = drafter.vocabulary if drafter else None
    if vocabulary is None:
        return None
    tokens = torch.tensor([token for generation in generations for token in generation.ids])
    return float(torch.isin(tokens, vocabulary.cpu()).float().mean())


def cycle_times(repeats: Sequence[Repeat]) -> CycleTimes:
    """Return the mean times per cycle of the measured decoder over all repeats."""
    generations = [generation for repeat in repeats for generation in repeat.measured.generations]
    num_cycles = sum(repeat.measured.num_cycles for repeat in repeats)
    wall_s = sum(repeat.measured.wall_s for repeat in repeats)
    timed_s = sum(generation.prefill_s + generation.decode_s for generation in generations)
    return CycleTimes(
        draft_s=sum(generation.draft_s for generation in generations) / num_cycles,
        verify_s=sum(generation.verify_s for generation in generations) / num_cycles,
        commit_s=sum(generation.commit_s for generation in generations) / num_cycles,
        rest_s=(wall_s - timed_s) / num_cycles,
    )


def peer_result(name: str, repeats: Sequence[Repeat]) -> PeerResult:
    """Return the speed of a peer, and how many of its answers equal plain decoding."""
    speeds = []
    for repeat in repeats:
        decode_s = sum(answer.decode_s for answer in repeat.peers[name])
        speeds.append(sum(answer.num_timed for answer in repeat.peers[name]) / decode_s if decode_s else 0.0)
    plain, theirs = repeats[0].plain.generations, repeats[0].peers[name]
    num_equal = sum(own.ids == answer.ids for own, answer in zip(plain, theirs, strict=True))
    return PeerResult(name, Spread.of(speeds), num_equal, len(theirs))
