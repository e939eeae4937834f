"""`edgeai spec bench`: speed of speculative decoding relative to plain decoding, on the same engine and prompts.

The records and the definitions of all numbers are in `report.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from edgeai.core.errors import UsageError
from edgeai.core.run import Run
from edgeai.core.stats import Spread
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import Draft, Eagle3Draft, NoDraft, TreeConfig
from edgeai.spec.data.dialogues import Dialogues
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select
from edgeai.spec.decoding.costs import measure_verify
from edgeai.spec.decoding.generate import settle_tree
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.evaluation.bench.lossless import compare_answers
from edgeai.spec.evaluation.bench.machine import hardware, note_load, peak_bytes
from edgeai.spec.evaluation.bench.repeats import BenchDecoders
from edgeai.spec.evaluation.bench.report import (
    BenchPlan,
    BenchReport,
    Cost,
    PeerFailure,
)
from edgeai.spec.evaluation.bench.summary import (
    acceptance_by_depth,
    coverage_frac,
    cycle_times,
    peer_results,
    task_results,
)
from edgeai.spec.evaluation.peers.build_peers import build_peers, check_peers, num_peers
from edgeai.spec.target.build import build_target


def plan_bench(cfg: BenchConfig) -> BenchPlan:
    """Return the amount of work without loading the model.

    Raises:
        UsageError: No such prompts, or peers with sampling.
    """
    prompts = _prompts(cfg)
    num_turns = sum(min(len(prompt.turns), cfg.max_turns) for prompt in prompts)
    num_decoders = 1 + (not isinstance(cfg.draft, NoDraft)) + num_peers(cfg)
    max_tokens = num_turns * num_decoders * cfg.repeats * cfg.max_tokens
    return BenchPlan(len(prompts), num_turns, num_decoders, max_tokens)


def run_bench(cfg: BenchConfig, run: Run) -> BenchReport:
    """Measure plain and speculative decoding, and compare their answers.

    Args:
        cfg: Target, drafter, prompts and number of repeats.
        run: Run that receives progress, notes and the numbers of each repeat.

    Raises:
        UsageError: No such model, head or prompts; a prompt that does not fit the context; peers with sampling.
        EdgeAIError: Every answer ended with its first token, so there is no speed to measure.
    """
    prompts = _prompts(cfg, on_skip=run.metrics.note)
    note_load(run.metrics)
    check_peers(cfg, device=run.device, metrics=run.metrics)
    target = build_target(cfg.target, device=run.device, metrics=run.metrics)
    drafter = build_drafter(cfg.draft, target, run.metrics)
    dialogues = Dialogues(cfg, target, prompts)
    drafter, tree, choice = settle_tree(cfg.tree, target, drafter, cfg.sampling, run.metrics)
    with closing(build_peers(cfg, target, next(dialogues.first_turns()).ids, run.metrics)) as peers:
        decoders = BenchDecoders(cfg, target, drafter, tree, peers)
        decoders.warm_up(dialogues)
        repeats = [decoders.run_repeat(number, dialogues, run.metrics) for number in range(cfg.repeats)]
    lossless = compare_answers(cfg, target, drafter, tree, repeats, run.metrics) if drafter else None
    costs = measure_verify(target, repeats=5)
    first = repeats[0].measured
    return BenchReport(
        target=target.name,
        draft=_draft_name(cfg.draft),
        dtype=str(target.dtype).removeprefix("torch."),
        runtime=target.runtime,
        device=run.device,
        hardware=hardware(target.device),
        prompts=cfg.prompts or "built-in",
        num_prompts=len(prompts),
        num_answers=len(first.generations),
        max_tokens=cfg.max_tokens,
        temperature=cfg.sampling.temperature,
        repeats=cfg.repeats,
        mode="speculative" if drafter else "plain",
        tree=_shape(tree) if drafter else "",
        tree_why=choice.why if choice else _configured_tree(cfg, tree),
        plain_tokens_per_s=Spread.of([repeat.plain.tokens_per_s for repeat in repeats]),
        speculative_tokens_per_s=Spread.of([repeat.measured.tokens_per_s for repeat in repeats]),
        ratio=Spread.of([repeat.ratio for repeat in repeats]),
        prompt_tokens_per_s=Spread.of([repeat.plain.prompt_tokens_per_s for repeat in repeats]),
        num_tokens=first.num_tokens,
        num_cycles=first.num_cycles,
        accept_len=first.num_tokens / first.num_cycles,
        acceptance=acceptance_by_depth(first),
        tasks=task_results(repeats),
        draft_nodes=sum(generation.num_draft_nodes for generation in first.generations) / first.num_cycles,
        coverage_frac=coverage_frac(drafter, repeats[0].plain.generations),
        cycle=cycle_times(repeats),
        cost_curve=tuple(Cost(size, verify_s) for size, verify_s in sorted(costs.items())),
        peak_memory_bytes=peak_bytes(target.device),
        lossless=lossless,
        peers=peer_results(target, peers, repeats),
        failed_peers=tuple(PeerFailure(name, reason) for name, reason in peers.failures.items()),
    )


def _prompts(cfg: BenchConfig, *, on_skip: Callable[[str], None] | None = None) -> list[Prompt]:
    if cfg.peers and cfg.sampling.temperature > 0.0:
        raise UsageError(
            "peers are compared greedily, but sampling.temperature is above 0",
            hint="set sampling.temperature=0 or peers=[]",
        )
    return select(load_prompts(cfg.prompts, on_skip=on_skip) if cfg.prompts else builtin_prompts(), cfg.max_prompts)


def _configured_tree(cfg: BenchConfig, tree: TreeConfig) -> str:
    if isinstance(cfg.draft, NoDraft):
        return "plain decoding: draft.kind is none"
    return f"{_shape(tree)}: set in the config"


def _shape(tree: TreeConfig) -> str:
    return f"{tree.nodes} nodes, depth {tree.depth}, top-k {tree.top_k}"


def _draft_name(draft: Draft) -> str:
    if not isinstance(draft, Eagle3Draft):
        return draft.kind
    return f"eagle3 from {draft.path}" if draft.path else "eagle3, the head shipped for this target"
