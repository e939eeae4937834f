"""`edgeai spec bench`: plain against speculative decoding on the same engine, number format and prompts.

For every prompt both decode right after one another, and the one that goes first alternates between repeats: whatever
else the machine does meanwhile meets both alike. Records and definitions are in `bench_report.py`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from edgeai.core.device import peak_memory_bytes
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import Eagle3Draft, NoDraft, TreeConfig
from edgeai.spec.data.dialogues import Ask, Dialogues
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select
from edgeai.spec.decoding.costs import measure_verify
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.difference import Difference
from edgeai.spec.decoding.generate import settle_tree
from edgeai.spec.decoding.generation import Generation, TreeChoice
from edgeai.spec.decoding.lossless import differences
from edgeai.spec.draft.build import Drafter, build_drafter
from edgeai.spec.evaluation.bench_report import (
    ACCEPT_LEN,
    ACCEPTANCE,
    TOKENS_PER_S,
    AnswerDifference,
    BenchPlan,
    BenchReport,
    Cost,
    CycleTimes,
    Lossless,
    PeerResult,
    Spread,
)
from edgeai.spec.evaluation.peers import PeerAnswer, Peers
from edgeai.spec.target.loading import load_target
from edgeai.spec.target.target import Target

_WARM_UP_TOKENS = 8


def plan_bench(cfg: BenchConfig) -> BenchPlan:
    """Work out a plan without loading the model.

    Raises:
        UsageError: As `run_bench` for prompts and peers.
    """
    prompts = _prompts(cfg)
    num_turns = sum(min(len(prompt.turns), cfg.max_turns) for prompt in prompts)
    num_decoders = 1 + (not isinstance(cfg.draft, NoDraft)) + (2 + bool(cfg.peers_assistant)) * cfg.peers
    max_tokens = num_turns * num_decoders * cfg.repeats * cfg.max_tokens
    return BenchPlan(len(prompts), num_turns, num_decoders, max_tokens)


def run_bench(cfg: BenchConfig, run: Run) -> BenchReport:
    """Measure what speculative decoding gains here, and compare its answers with plain decoding's.

    Args:
        cfg: What to run.
        run: Receives progress, notes and the numbers of each repeat.

    Raises:
        UsageError: No such model, head or prompts; a prompt that does not fit the context; peers while sampling.
        EdgeAIError: Nothing to measure, because every answer ended at once.
    """
    prompts = _prompts(cfg)
    target = load_target(cfg.target, device=run.device, metrics=run.metrics)
    drafter = build_drafter(cfg.draft, target)
    dialogues = Dialogues(cfg, target, prompts)
    drafter, tree, choice = settle_tree(cfg.tree, target, drafter, cfg.sampling, run.metrics)
    peers = None
    if cfg.peers:
        peers = Peers(
            cfg.target.model, target, max_tokens=cfg.max_tokens, assistant=cfg.peers_assistant, metrics=run.metrics
        )
    bench = _Bench(cfg, target, drafter, tree, peers)
    bench.warm_up(dialogues)
    repeats = [bench.repeat(number, dialogues, run.metrics) for number in range(cfg.repeats)]
    comparison = bench.compare(repeats, run.metrics) if drafter else None
    costs = measure_verify(target, repeats=5)
    return _report(cfg, run, bench, repeats, comparison, _why(cfg, choice, tree), costs, len(prompts))


def _prompts(cfg: BenchConfig) -> list[Prompt]:
    if cfg.peers and cfg.sampling.temperature > 0.0:
        raise UsageError(
            "peers are compared greedily, but sampling.temperature is above 0",
            hint="set sampling.temperature=0 or peers=false",
        )
    return select(load_prompts(cfg.prompts) if cfg.prompts else builtin_prompts(), cfg.max_prompts)


def _why(cfg: BenchConfig, choice: TreeChoice | None, tree: TreeConfig) -> str:
    if choice:
        return choice.why
    return (
        "plain decoding: draft.kind is none" if isinstance(cfg.draft, NoDraft) else f"{_shape(tree)}: set in the config"
    )


def _shape(tree: TreeConfig) -> str:
    return f"{tree.nodes} nodes, depth {tree.depth}, top-k {tree.top_k}"


# --------------------------------------------------------------------------------------------------------------------
# Measuring


@dataclass
class _Repeat:
    """All answers of one repeat."""

    asks: list[Ask] = field(default_factory=list)
    plain: list[Generation] = field(default_factory=list)
    speculative: list[Generation] = field(default_factory=list)
    peers: dict[str, list[PeerAnswer]] = field(default_factory=dict)
    wall_s: float = 0.0
    """Time of the speculative answers, everything included."""

    @property
    def ratio(self) -> float:
        """Speculative / plain tokens per second."""
        return speed(self.speculative) / speed(self.plain)


def speed(answers: Sequence[Generation]) -> float:
    """Tokens per second as `TOKENS_PER_S` defines them."""
    decode_s = sum(answer.decode_s for answer in answers)
    return sum(sum(answer.accept_counts) for answer in answers) / decode_s if decode_s else 0.0


class _Bench:
    """Decodes every ask plainly, speculatively, and by the peers."""

    def __init__(
        self, cfg: BenchConfig, target: Target, drafter: Drafter | None, tree: TreeConfig, peers: Peers | None
    ) -> None:
        self.cfg, self.target, self.drafter, self.tree, self.peers = cfg, target, drafter, tree, peers

    def warm_up(self, dialogues: Dialogues) -> None:
        """First calls allocate and compile; nobody counts them."""
        ask = next(dialogues.first_turns())
        for drafter in (None, self.drafter):
            self._answer(drafter, ask, _WARM_UP_TOKENS)
        self._ask_peers(ask, {})

    def repeat(self, number: int, dialogues: Dialogues, metrics: Metrics) -> _Repeat:
        """Answer everything once."""
        done, total = number * dialogues.num_turns, self.cfg.repeats * dialogues.num_turns
        out = _Repeat()
        for ask in dialogues.turns():
            out.asks.append(ask)
            self._pair(ask, out, plain_first=number % 2 == 0)
            dialogues.answered(ask, out.plain[-1].text)
            self._ask_peers(ask, out.peers)
            fields = {"plain_tok/s": speed(out.plain)}
            if self.drafter:
                fields["speculative_tok/s"] = speed(out.speculative)
            metrics.progress("bench", done + len(out.asks), total, unit="answers", **fields)
        if not speed(out.plain):
            raise EdgeAIError("every answer ended with its first token: nothing to measure", hint="give other prompts")
        values = {"plain_tokens_per_s": speed(out.plain)}
        if self.drafter:
            values |= {"speculative_tokens_per_s": speed(out.speculative), "ratio": out.ratio}
        metrics.log(number + 1, values)
        return out

    def _pair(self, ask: Ask, out: _Repeat, *, plain_first: bool) -> None:
        if plain_first:
            out.plain.append(self._answer(None, ask))
        if self.drafter:
            begin_s = time.perf_counter()
            out.speculative.append(self._answer(self.drafter, ask))
            out.wall_s += time.perf_counter() - begin_s
        if not plain_first:
            out.plain.append(self._answer(None, ask))

    def _ask_peers(self, ask: Ask, answers: dict[str, list[PeerAnswer]]) -> None:
        if self.peers:
            for name in self.peers.names:
                answers.setdefault(name, []).append(self.peers.answer(name, ask.ids))

    def _answer(self, drafter: Drafter | None, ask: Ask, max_tokens: int | None = None) -> Generation:
        return generate_ids(
            self.target,
            drafter,
            ask.ids,
            tree=self.tree,
            sampling=self.cfg.sampling,
            max_tokens=max_tokens or self.cfg.max_tokens,
            context=self.cfg.context,
        )

    def compare(self, repeats: Sequence[_Repeat], metrics: Metrics) -> Lossless:
        """Compare the answers of all repeats; the same pair of texts is looked into once."""
        assert self.drafter is not None
        pairs = {
            (ask.key, plain.ids, speculative.ids): (ask, plain, speculative)
            for repeat in repeats
            for ask, plain, speculative in zip(repeat.asks, repeat.plain, repeat.speculative, strict=True)
        }
        unequal = {key: pair for key, pair in pairs.items() if key[1] != key[2]}
        found: list[AnswerDifference] = []
        for done, (ask, plain, speculative) in enumerate(unequal.values(), start=1):
            seen = differences(
                self.target,
                self.drafter,
                ask.ids,
                plain,
                speculative,
                tree=self.tree,
                sampling=self.cfg.sampling,
                max_tokens=self.cfg.max_tokens,
                context=self.cfg.context,
            )
            found += [AnswerDifference(ask.prompt, ask.turn, difference) for difference in seen]
            metrics.progress("compare unequal answers", done, len(unequal), unit="answers")
        num_answers = len({key[0] for key in pairs})
        return _lossless(found, num_answers, num_answers - len({key[0] for key in unequal}))


def _lossless(found: Sequence[AnswerDifference], num_answers: int, num_equal: int) -> Lossless:
    every: list[Difference] = [entry.difference for entry in found]
    num_ties = sum(difference.is_tie for difference in every)
    return Lossless(
        ok=num_ties == len(every),
        num_answers=num_answers,
        num_equal=num_equal,
        num_ties=num_ties,
        num_mismatches=len(every) - num_ties,
        noise=max((difference.noise for difference in every), default=0.0),
        differences=tuple(found),
    )


# --------------------------------------------------------------------------------------------------------------------
# Reporting


def _report(
    cfg: BenchConfig,
    run: Run,
    bench: _Bench,
    repeats: Sequence[_Repeat],
    comparison: Lossless | None,
    why: str,
    costs: dict[int, float],
    num_prompts: int,
) -> BenchReport:
    target, tree = bench.target, bench.tree
    is_plain = bench.drafter is None
    plain_speed = Spread.of([speed(repeat.plain) for repeat in repeats])
    first = repeats[0].plain if is_plain else repeats[0].speculative
    num_cycles = sum(answer.num_cycles for answer in first)
    num_tokens = sum(sum(answer.accept_counts) for answer in first)
    plain_ids = [answer.ids for answer in repeats[0].plain]
    return BenchReport(
        target=target.name,
        draft=_draft_name(cfg),
        dtype=str(target.dtype).removeprefix("torch."),
        device=run.device,
        hardware=hardware(target.device),
        prompts=cfg.prompts or "built-in",
        num_prompts=num_prompts,
        num_answers=len(first),
        max_tokens=cfg.max_tokens,
        temperature=cfg.sampling.temperature,
        repeats=cfg.repeats,
        mode="plain" if is_plain else "speculative",
        tree="" if is_plain else _shape(tree),
        tree_why=why,
        plain_tokens_per_s=plain_speed,
        speculative_tokens_per_s=plain_speed if is_plain else Spread.of([speed(r.speculative) for r in repeats]),
        tokens_per_s_definition=TOKENS_PER_S,
        ratio=Spread(1.0, 1.0, 1.0) if is_plain else Spread.of([repeat.ratio for repeat in repeats]),
        num_tokens=num_tokens,
        num_cycles=num_cycles,
        accept_len=num_tokens / num_cycles,
        accept_len_definition=ACCEPT_LEN,
        acceptance=_acceptance(first, num_cycles),
        acceptance_definition=ACCEPTANCE,
        draft_nodes=sum(answer.num_draft_nodes for answer in first) / num_cycles,
        coverage_frac=_coverage(bench.drafter, plain_ids),
        cycle=_cycle(repeats, is_plain),
        cost_curve=tuple(Cost(size, verify_s) for size, verify_s in sorted(costs.items())),
        peak_memory_bytes=_peak_memory_bytes(target.device),
        lossless=comparison,
        peers=tuple(_peer(name, repeats, plain_ids) for name in (bench.peers.names if bench.peers else ())),
    )


def _draft_name(cfg: BenchConfig) -> str:
    if not isinstance(cfg.draft, Eagle3Draft):
        return cfg.draft.kind
    return f"eagle3 from {cfg.draft.path}" if cfg.draft.path else "eagle3, the head shipped for this target"


def _acceptance(answers: Sequence[Generation], num_cycles: int) -> tuple[float, ...]:
    depth = max((len(answer.accepted_at) for answer in answers), default=0)
    totals = [sum(a.accepted_at[place] for a in answers if place < len(a.accepted_at)) for place in range(depth)]
    return tuple(total / num_cycles for total in totals)


def _coverage(drafter: Drafter | None, answers: Sequence[Sequence[int]]) -> float | None:
    vocabulary = drafter.vocabulary if drafter else None
    if vocabulary is None:
        return None
    tokens = torch.tensor([token for ids in answers for token in ids])
    return float(torch.isin(tokens, vocabulary.cpu()).float().mean())


def _cycle(repeats: Sequence[_Repeat], is_plain: bool) -> CycleTimes:
    answers = [answer for repeat in repeats for answer in (repeat.plain if is_plain else repeat.speculative)]
    num_cycles = sum(answer.num_cycles for answer in answers)
    wall_s = sum(repeat.wall_s for repeat in repeats)
    inside_s = sum(answer.prefill_s + answer.decode_s for answer in answers)
    return CycleTimes(
        draft_s=sum(answer.draft_s for answer in answers) / num_cycles,
        verify_s=sum(answer.verify_s for answer in answers) / num_cycles,
        commit_s=sum(answer.commit_s for answer in answers) / num_cycles,
        rest_s=0.0 if is_plain else (wall_s - inside_s) / num_cycles,
    )


def _peer(name: str, repeats: Sequence[_Repeat], plain_ids: Sequence[tuple[int, ...]]) -> PeerResult:
    speeds = []
    for repeat in repeats:
        decode_s = sum(answer.decode_s for answer in repeat.peers[name])
        speeds.append(sum(answer.num_timed for answer in repeat.peers[name]) / decode_s if decode_s else 0.0)
    first = [answer.ids for answer in repeats[0].peers[name]]
    num_equal = sum(ours == theirs for ours, theirs in zip(plain_ids, first, strict=True))
    return PeerResult(name, Spread.of(speeds), num_equal, len(first))


def _peak_memory_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory_bytes()


def hardware(device: torch.device) -> str:
    """The processor or GPU, its threads, and torch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    model = model or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{model}, {threads} {'thread' if threads == 1 else 'threads'}, torch {torch.__version__}"
