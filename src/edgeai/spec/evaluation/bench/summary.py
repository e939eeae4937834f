"""Statistics of `spec bench` over the answers of all repeats."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeai.core.stats import Spread
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.evaluation.bench.peer_texts import common_prefix, num_unexplained
from edgeai.spec.evaluation.bench.repeats import DecoderAnswers, Repeat
from edgeai.spec.evaluation.bench.report import CycleTimes, PeerResult, TaskResult
from edgeai.spec.evaluation.peers.peer import Peers
from edgeai.spec.target.protocol import Target


def acceptance_by_depth(answers: DecoderAnswers) -> tuple[float, ...]:
    """Return the fraction of cycles that accepted a draft token of depth 1, 2, ..."""
    counts = [generation.accepted_at for generation in answers.generations]
    depth = max(map(len, counts), default=0)
    totals = [sum(at[place] for at in counts if place < len(at)) for place in range(depth)]
    return tuple(total / answers.num_cycles for total in totals)


def task_results(repeats: Sequence[Repeat]) -> tuple[TaskResult, ...]:
    """Return acceptance and speed by kind of task; empty if the prompts name at most one, or in plain mode."""
    tasks = list(dict.fromkeys(ask.task for ask in repeats[0].asks))
    if len(tasks) < 2 or repeats[0].speculative is None:
        return ()
    return tuple(_task_result(task, repeats) for task in tasks)


def _task_result(task: str, repeats: Sequence[Repeat]) -> TaskResult:
    plain, measured = DecoderAnswers(), DecoderAnswers()
    for repeat in repeats:
        places = [at for at, ask in enumerate(repeat.asks) if ask.task == task]
        plain.generations += [repeat.plain.generations[at] for at in places]
        measured.generations += [repeat.measured.generations[at] for at in places]
    is_timed = bool(plain.tokens_per_s and measured.num_cycles)
    return TaskResult(
        task=task or "other",
        num_answers=len(plain.generations) // len(repeats),
        accept_len=measured.num_tokens / measured.num_cycles if is_timed else None,
        ratio=measured.tokens_per_s / plain.tokens_per_s if is_timed else None,
    )


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


def peer_results(target: Target, peers: Peers, repeats: Sequence[Repeat]) -> tuple[PeerResult, ...]:
    """Return the results of the peers that completed at least one repeat.

    Args:
        target: Target of our answers.
        peers: The peers.
        repeats: Answers of all decoders.
    """
    settings = peers.settings
    complete = {
        name: [repeat for repeat in repeats if len(repeat.peers[name]) == len(repeat.asks)] for name in settings
    }
    return tuple(
        _peer_result(name, settings[name], found, num_unexplained(target, found, peers[name], name))
        for name, found in complete.items()
        if found
    )


def _peer_result(name: str, settings: str, repeats: Sequence[Repeat], unexplained: int) -> PeerResult:
    speeds, prompt_speeds = [], []
    for repeat in repeats:
        answers = repeat.peers[name]
        decode_s = sum(answer.decode_s for answer in answers)
        speeds.append(sum(answer.num_timed for answer in answers) / decode_s if decode_s else 0.0)
        prompt_speeds.append(sum(a.num_prompt_tokens for a in answers) / sum(a.prefill_s for a in answers))
    plain = [repeat.plain.tokens_per_s for repeat in repeats]
    speculative = [repeat.speculative.tokens_per_s for repeat in repeats if repeat.speculative]
    prompt = [repeat.plain.prompt_tokens_per_s for repeat in repeats]
    own, theirs = repeats[0].plain.generations, repeats[0].peers[name]
    pairs = [(generation.ids, answer.ids) for generation, answer in zip(own, theirs, strict=True)]
    return PeerResult(
        name=name,
        settings=settings,
        num_repeats=len(repeats),
        tokens_per_s=Spread.of(speeds),
        plain_ratio=_ratio(plain, speeds),
        speculative_ratio=_ratio(speculative, speeds) if speculative else None,
        prompt_tokens_per_s=Spread.of(prompt_speeds),
        prompt_ratio=Spread.of([a / b for a, b in zip(prompt, prompt_speeds, strict=True)]),
        num_equal=sum(ours == other for ours, other in pairs),
        num_answers=len(pairs),
        equal_frac=sum(common_prefix(*pair) for pair in pairs) / sum(len(ours) for ours, _ in pairs),
        num_unexplained=unexplained,
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Return our speed over theirs, repeat by repeat; None if a peer's answers all ended with their first token."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)]) if all(theirs) else None
