"""From a config to an engine: how many slots the budget holds, which drafts, which policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Draft, NgramDraft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.decoding.costs import measure_verify
from edgeai.spec.decoding.tree_tuning import WIDE, measure
from edgeai.spec.draft.build import Drafter, build_drafter
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.draft.tree import root_only
from edgeai.spec.serve.engine.drafting import DraftPool, Eagle3Pool, TextPool
from edgeai.spec.serve.engine.policy import Adaptive, BatchCosts, FixedTree, Policy
from edgeai.spec.serve.engine.slots import bytes_per_token
from edgeai.spec.serve.http.requests import Served
from edgeai.spec.serve.reports import ServePlan
from edgeai.spec.target.loading import load_target
from edgeai.spec.target.segments import run_segments, tree_segment
from edgeai.spec.target.target import DecoderTarget

_LONG_PASSES = (64, 96, 128, 192)
"""Tokens of passes that only serving makes."""


@dataclass(frozen=True)
class Parts:
    """All that an engine is made of."""

    target: DecoderTarget
    drafts: DraftPool | None
    policy: Policy
    plan: ServePlan

    @property
    def served(self) -> Served:
        """The model as clients see it."""
        target = self.target
        return Served(self.plan.name, target.fingerprint, target.tokenizer, target.shape.vocab_size, self.plan.context)


def plan_serve(cfg: ServeConfig, *, device: str, metrics: Metrics) -> ServePlan:
    """Sizes, without measuring or reserving anything.

    Raises:
        UsageError: The budget does not hold one slot.
    """
    target = load_target(cfg.target, device=device, metrics=metrics)
    return _plan(cfg, target, build_drafter(cfg.draft, target))


def build_parts(cfg: ServeConfig, *, device: str, metrics: Metrics) -> Parts:
    """Load the model and the head, measure what `tree: auto` needs, reserve the memory of the drafts.

    Raises:
        EdgeAIError: The model or the head cannot be loaded.
        UsageError: The budget does not hold one slot.
    """
    target = load_target(cfg.target, device=device, metrics=metrics)
    drafter = build_drafter(cfg.draft, target)
    plan = _plan(cfg, target, drafter)
    drafts = _build_drafts(cfg.draft, drafter, target, plan, _largest(cfg.tree))
    policy = _build_policy(cfg.tree, target, drafter, drafts, metrics)
    return Parts(target, drafts, policy, plan)


def _plan(cfg: ServeConfig, target: DecoderTarget, drafter: Drafter | None) -> ServePlan:
    context = min(cfg.context, target.shape.max_positions)
    largest = _largest(cfg.tree)
    itemsize = target.dtype.itemsize
    per_slot = (context + largest.nodes + 1) * bytes_per_token(target.shape, itemsize)
    if isinstance(drafter, Eagle3):
        head = drafter.layer.shape
        per_slot += (context + largest.depth * largest.top_k) * 2 * head.num_kv_heads * head.head_dim * itemsize
    slots = min(cfg.slots, int(cfg.kv_budget_mib * 2**20) // per_slot)
    if slots < 1:
        raise UsageError(
            f"kv_budget_mib {cfg.kv_budget_mib:g} holds not one request of {context} tokens, "
            f"which needs {per_slot / 2**20:.0f} MiB",
            hint="raise kv_budget_mib or lower context",
        )
    return ServePlan(
        name=cfg.name or target.name,
        context=context,
        slots=slots,
        slots_asked=cfg.slots,
        kv_bytes=slots * per_slot,
        kv_bytes_per_slot=per_slot,
        drafter=drafter.name if drafter else "none",
        dtype=str(target.dtype).removeprefix("torch."),
    )


def _largest(tree: TreeConfig | Literal["auto"]) -> TreeConfig:
    return WIDE if tree == "auto" else tree


def _build_drafts(
    config: Draft, drafter: Drafter | None, target: DecoderTarget, plan: ServePlan, largest: TreeConfig
) -> DraftPool | None:
    if isinstance(drafter, Eagle3):
        return Eagle3Pool(
            drafter.layer,
            target,
            name=drafter.name,
            num_rows=plan.slots,
            capacity=plan.context,
            max_tree=largest,
        )
    if isinstance(config, NgramDraft):
        ngram = config
        return TextPool(lambda: Ngram(max_ngram=ngram.max_ngram, min_ngram=ngram.min_ngram), plan.slots)
    return None


def _build_policy(
    tree: TreeConfig | Literal["auto"],
    target: DecoderTarget,
    drafter: Drafter | None,
    drafts: DraftPool | None,
    metrics: Metrics,
) -> Policy:
    if drafter is None or drafts is None:
        return FixedTree(None)
    if tree != "auto":
        return FixedTree(tree)
    costs, accept_lens = measure(target, drafter, sampling=SamplingConfig(), metrics=metrics)
    metrics.note("tree: auto: timing passes of several requests")
    verify_s = {**costs.verify_s}
    longer = measure_verify(target, _LONG_PASSES, repeats=2)
    scale = verify_s[_LONG_PASSES[0]] / longer[_LONG_PASSES[0]]  # other load now must not bend the curve
    verify_s |= {size: seconds * scale for size, seconds in longer.items() if size > _LONG_PASSES[0]}
    policy = Adaptive(BatchCosts(costs, verify_s, *_batch_costs(target, drafts)), accept_lens)
    for num in (size for size in (1, 4, 16) if size <= drafts.num_rows):
        decision = policy.choose(num, 0)
        shape = f"{decision.tree.nodes} nodes" if decision.tree else "plain decoding"
        metrics.note(f"tree: auto: a batch of {num}: {shape}, predicted ratio {decision.speedup:.2f}")
    return policy


@torch.inference_mode()
def _batch_costs(target: DecoderTarget, drafts: DraftPool, *, num: int = 4, context: int = 128) -> tuple[float, float]:
    """Seconds that a further request adds to a pass, and the share of a draft that it adds to drafting.

    Args:
        target: The model.
        drafts: Its first rows are used, and forgotten.
        num: Requests compared with one.
        context: Tokens before the timed passes.
    """
    rows = min(num, drafts.num_rows)
    if rows < 2:
        return 0.0, 1.0
    cache = target.new_cache(context + num, num)
    cache.lengths[:] = [context] * num
    tree = root_only(0)
    chain = [tree_segment(row, tree) for row in range(num)]
    split_s = _fastest_s(lambda: run_segments(target.decoder, chain, cache, target.aux_layers))
    whole_s = measure_verify(target, (1, num), context=context, repeats=5)[num]
    text = [index % target.shape.vocab_size for index in range(context)]
    features = torch.zeros(context, target.shape.hidden_size * len(target.aux_layers)).to(target.device, target.dtype)
    shape = TreeConfig(nodes=4, depth=2, top_k=2)

    def draft(count: int) -> Callable[[], object]:
        def run() -> None:
            for row in range(count):
                drafts.begin(row, context - 2 if drafts.reads_features else 0)
                drafts.feed(row, text, features[:1])
            drafts.propose(range(count), [text] * count, shape)

        return run

    alone_s, together_s = _fastest_s(draft(1)), _fastest_s(draft(rows))
    for row in range(rows):
        drafts.begin(row, 0)
    segment_s = max(split_s - whole_s, 0.0) / (num - 1)
    return segment_s, min(max(together_s / alone_s - 1, 0.0) / (rows - 1), 1.0)


def _fastest_s(call: Callable[[], object], repeats: int = 5) -> float:
    call()
    best_s = float("inf")
    for _ in range(repeats):
        begin_s = time.perf_counter()
        call()
        best_s = min(best_s, time.perf_counter() - begin_s)
    return best_s
