"""Build the engine from a config: number of slots within the memory budget, draft pool and tree policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.units import amount
from edgeai.spec.config.draft import Draft, NgramDraft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.serve import ReasoningParser, ServeConfig, ToolParser
from edgeai.spec.decoding.tree_tuning import WIDE, measure
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.native_eagle3 import NativeEagle3
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.serve.engine.draft_pool import DraftPool
from edgeai.spec.serve.engine.eagle3_pool import Eagle3Pool, NativePool
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.observer import Observer
from edgeai.spec.serve.engine.text_pool import TextPool
from edgeai.spec.serve.engine.tree_policy import AdaptiveTree, FixedTree, Policy
from edgeai.spec.serve.http.jobs.served_model import ServedModel, served_model
from edgeai.spec.serve.measure_costs import measure_batch_costs
from edgeai.spec.serve.reports import ServePlan
from edgeai.spec.target.build import build_target
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class EngineParts:
    """Model, draft pool, tree policy and sizes of an engine."""

    target: Target
    drafts: DraftPool | None
    policy: Policy
    plan: ServePlan
    tool_parser: ToolParser = "auto"
    reasoning_parser: ReasoningParser = "auto"

    @property
    def served(self) -> ServedModel:
        """The model as the HTTP interface describes it."""
        return served_model(
            self.target,
            name=self.plan.name,
            context=self.plan.context,
            tool_parser=self.tool_parser,
            reasoning_parser=self.reasoning_parser,
        )


def plan_serve(cfg: ServeConfig, *, device: str, metrics: Metrics) -> ServePlan:
    """Return the sizes of the engine without timing anything or reserving its memory.

    Raises:
        UsageError: The memory budget is too small for one slot.
    """
    target = build_target(cfg.target, device=device, metrics=metrics)
    return _plan(cfg, target, build_drafter(cfg.draft, target, metrics))


def build_parts(cfg: ServeConfig, *, device: str, metrics: Metrics) -> EngineParts:
    """Load the model and the head, reserve the draft pool's memory, and time passes and drafts for `tree: auto`.

    Raises:
        EdgeAIError: The model or the head cannot be loaded.
        UsageError: The memory budget is too small for one slot.
    """
    target = build_target(cfg.target, device=device, metrics=metrics)
    drafter = build_drafter(cfg.draft, target, metrics)
    target = target.with_aux_layers(drafter.aux_layers if drafter else ())
    plan = _plan(cfg, target, drafter)
    drafts = _build_drafts(cfg.draft, drafter, target, plan, _largest(cfg.tree))
    policy = _build_policy(cfg.tree, target, drafter, drafts, metrics)
    return EngineParts(target, drafts, policy, plan, cfg.tool_parser, cfg.reasoning_parser)


def build_engine(cfg: ServeConfig, parts: EngineParts, *, observer: Observer | None = None) -> Engine:
    """Build an engine; the caller starts and closes it.

    Args:
        cfg: Queue length and prompt chunk.
        parts: Model, draft pool, tree policy and sizes.
        observer: Receives the engine's statistics.
    """
    return Engine(
        parts.target,
        parts.drafts,
        parts.policy,
        num_slots=parts.plan.slots,
        context=parts.plan.context,
        queue=cfg.queue,
        prompt_chunk=cfg.prompt_chunk,
        observer=observer,
    )


def _plan(cfg: ServeConfig, target: Target, drafter: Drafter | None) -> ServePlan:
    context = min(cfg.context, target.shape.max_positions)
    largest = _largest(cfg.tree)
    per_slot = target.cache_bytes(context + largest.nodes + 1)
    draft_slots = context + largest.depth * largest.top_k
    if isinstance(drafter, Eagle3):
        head = drafter.layer.shape
        per_slot += draft_slots * 2 * head.num_kv_heads * head.head_dim * target.dtype.itemsize
    elif isinstance(drafter, NativeEagle3):
        per_slot += drafter.head.cache_bytes(draft_slots)
    slots = min(cfg.slots, int(cfg.kv_budget_mib * 2**20) // per_slot)
    if slots < 1:
        raise UsageError(
            f"kv_budget_mib {cfg.kv_budget_mib:g} is too small for one request of {context} tokens, "
            f"which needs {amount(per_slot, 'B')}",
            hint=f"set kv_budget_mib to {math.ceil(per_slot / 2**20)} or more, or lower context",
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
        runtime=target.runtime,
    )


def _largest(tree: TreeConfig | Literal["auto"]) -> TreeConfig:
    return WIDE if tree == "auto" else tree


def _build_drafts(
    config: Draft, drafter: Drafter | None, target: Target, plan: ServePlan, largest: TreeConfig
) -> DraftPool | None:
    if isinstance(drafter, NativeEagle3):
        return NativePool(drafter.head, num_rows=plan.slots, capacity=plan.context, max_tree=largest)
    if isinstance(drafter, Eagle3):
        return Eagle3Pool(drafter.layer, target, num_rows=plan.slots, capacity=plan.context, max_tree=largest)
    if isinstance(config, NgramDraft):
        ngram = config
        return TextPool(lambda: Ngram(max_ngram=ngram.max_ngram, min_ngram=ngram.min_ngram), plan.slots)
    return None


def _build_policy(
    tree: TreeConfig | Literal["auto"],
    target: Target,
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
    policy = AdaptiveTree(measure_batch_costs(target, drafts, costs), accept_lens)
    for num in (size for size in (1, 4, 16) if size <= drafts.num_rows):
        decision = policy.choose(num, 0)
        shape = f"{decision.tree.nodes} nodes" if decision.tree else "plain decoding"
        metrics.note(f"tree: auto: batch size {num}: {shape}, predicted ratio {decision.speedup:.2f}")
    return policy
