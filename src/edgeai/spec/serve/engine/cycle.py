"""One decoding cycle over all active requests: draft, verify in one target pass, accept, commit, emit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.constraints.constrained_tree import constrain
from edgeai.spec.draft.drafter import limit_depth
from edgeai.spec.draft.tree import DraftTree, root_only
from edgeai.spec.serve.engine.draft_pool import DraftPool
from edgeai.spec.serve.engine.events import Failed
from edgeai.spec.serve.engine.observer import CycleStats
from edgeai.spec.serve.engine.request_state import RequestState, RequestStep
from edgeai.spec.serve.engine.scheduler import Scheduler
from edgeai.spec.serve.engine.tree_policy import Decision, Policy
from edgeai.spec.target.protocol import Cache, Segment, SegmentResult, Target


@dataclass(frozen=True)
class _Work:
    """Segment of one request in the next pass."""

    request: RequestState
    segment: Segment
    tree: DraftTree | None
    """Tree to verify; None while the prompt is being read."""


@dataclass(frozen=True)
class _Outcome:
    """Step of one request, with the target's features of its segment [n, F]."""

    request: RequestState
    step: RequestStep
    features: Tensor


class CycleRunner:
    """Runs decoding cycles.

    An exception that belongs to one request ends that request only.

    Args:
        target: The model.
        cache: The target's keys and values, one row per slot.
        drafts: Drafts for all slots; None decodes plainly.
        policy: Chooses the tree of each cycle.
        scheduler: The active requests.
        prompt_chunk: Most prompt tokens read in one cycle while other requests decode.
    """

    def __init__(
        self,
        target: Target,
        cache: Cache,
        drafts: DraftPool | None,
        policy: Policy,
        scheduler: Scheduler,
        *,
        prompt_chunk: int,
    ) -> None:
        self._target, self._cache, self._drafts = target, cache, drafts
        self._policy, self._scheduler, self._prompt_chunk = policy, scheduler, prompt_chunk

    def run(self) -> CycleStats:
        """Run one cycle."""
        begin_s = time.perf_counter()
        active = self._scheduler.active
        drafting = [request for request in active if request.is_decoding and request.speculates]
        num_others = sum(request.is_decoding for request in active) - len(drafting)
        decision = self._policy.choose(len(drafting), num_others)
        trees = self._draft(drafting, decision.tree)
        self._constrain(trees, decision.tree)
        work = self._plan_pass(trees)
        drafted_s = time.perf_counter()
        results = self._run_pass(work)
        verified_s = time.perf_counter()
        outcomes = self._accept(work, results, decision)
        self._commit(outcomes)
        self._emit(outcomes)
        steps = [outcome.step for outcome in outcomes]
        return CycleStats(
            decision=decision,
            num_requests=len(steps),
            num_tokens=sum(len(step.tokens) for step in steps),
            num_prompt_tokens=sum(len(step.path) for step in steps if step.tree is None),
            num_draft_tokens=sum(step.num_draft_tokens for step in steps),
            num_accepted=tuple(step.num_accepted for step in steps if step.num_draft_tokens),
            draft_s=drafted_s - begin_s,
            verify_s=verified_s - drafted_s,
            rest_s=time.perf_counter() - verified_s,
        )

    def _draft(self, drafting: Sequence[RequestState], tree: TreeConfig | None) -> dict[int, DraftTree]:
        """Return trees by slot, no deeper than the tokens that may still be emitted."""
        if tree is None or self._drafts is None:
            return {}
        by_tree: dict[TreeConfig, list[RequestState]] = {}
        for request in drafting:
            limited = limit_depth(tree, request.remaining)
            # a chain of forced tokens as long as the tree needs no drafter
            if limited and not (request.constraint and len(request.constraint.forced()) >= limited.depth):
                by_tree.setdefault(limited, []).append(request)
        trees: dict[int, DraftTree] = {}
        for limited, group in by_tree.items():
            rows = [request.slot.row for request in group]
            try:
                drafted = self._drafts.propose(rows, [request.ids for request in group], limited)
            except Exception as error:
                for request in group:  # the drafter's state of these rows is unknown
                    self._scheduler.end(request, Failed(error), keeps_text=False)
                continue
            trees.update(zip(rows, drafted, strict=True))
        return trees

    def _constrain(self, trees: dict[int, DraftTree], tree: TreeConfig | None) -> None:
        """Prune the trees of requests with a grammar, and draft the tokens that it forces, also without a drafter."""
        for request in self._scheduler.active[:]:
            if not (request.is_decoding and request.constraint and request.handle.job.speculates):
                continue
            row = request.slot.row
            drafted = trees.get(row) or root_only(request.ids[-1])
            nodes = tree.nodes if tree else 0
            try:
                trees[row] = constrain(drafted, request.constraint, nodes=nodes, depth=request.remaining - 1)
            except Exception as error:
                self._scheduler.end(request, Failed(error), keeps_text=False)

    def _plan_pass(self, trees: dict[int, DraftTree]) -> list[_Work]:
        """Choose the segments of the next pass: a tree per decoding request, and parts of prompts within a budget.

        The budget doubles while no request decodes.
        """
        active = self._scheduler.active
        budget = self._prompt_chunk if any(request.is_decoding for request in active) else 2 * self._prompt_chunk
        work = []
        for request in active:
            row = request.slot.row
            if request.is_decoding:
                tree = trees[row] if row in trees else root_only(request.ids[-1])
                work.append(_Work(request, Segment.of_tree(row, tree), tree))
            elif budget > 0:
                unread = request.unread_prompt
                part = unread[:budget]
                budget -= len(part)
                segment = Segment.of_prompt(
                    row,
                    part,
                    is_last=len(part) == len(unread),
                    needs_all=request.handle.job.needs_prompt_logits,
                )
                work.append(_Work(request, segment, None))
        return work

    def _run_pass(self, work: Sequence[_Work]) -> list[SegmentResult | Exception]:
        """Run the target; if the pass raises, run each segment alone, so that only the failing request is lost."""
        wants_features = self._drafts is not None and self._drafts.reads_features
        needs_features = wants_features and any(entry.request.speculates for entry in work)
        target = self._target if needs_features else self._target.with_aux_layers(())
        segments = [entry.segment for entry in work]

        def run(part: Sequence[Segment]) -> list[SegmentResult]:
            return target.run_segments(part, self._cache)

        try:
            return [*run(segments)] if segments else []
        except Exception as error:
            if len(segments) == 1:
                return [error]
        results: list[SegmentResult | Exception] = []
        for segment in segments:
            try:
                results += run([segment])
            except Exception as error:
                results.append(error)
        return results

    def _accept(
        self, work: Sequence[_Work], results: Sequence[SegmentResult | Exception], decision: Decision
    ) -> list[_Outcome]:
        """Sample the tokens of each request and report accepted draft tokens to the policy."""
        outcomes = []
        for entry, result in zip(work, results, strict=True):
            request = entry.request
            eos_ids = self._target.tokenizer.eos_ids | request.handle.job.stop_ids
            try:
                if isinstance(result, Exception):
                    raise result
                if entry.tree is not None:
                    step = request.verify(entry.tree, result, eos_ids)
                else:
                    step = request.read(entry.segment.tokens.tolist(), result, eos_ids)
            except Exception as error:
                self._scheduler.end(request, Failed(error), keeps_text=False)
                continue
            outcomes.append(_Outcome(request, step, result.features))
            # a tree that max_tokens made shallower, or that a grammar changed, says nothing about the full one
            tree = None if request.constraint else decision.tree
            if step.num_draft_tokens and tree and request.remaining + len(step.tokens) > tree.depth:
                self._policy.observe(tree, step.num_accepted)
        return outcomes

    def _commit(self, outcomes: Sequence[_Outcome]) -> None:
        """Keep the accepted rows of the KV cache."""
        self._target.commit_paths(self._cache, [(outcome.request.slot.row, outcome.step.path) for outcome in outcomes])
        for outcome in outcomes:
            outcome.request.slot.ids += outcome.step.read

    def _emit(self, outcomes: Sequence[_Outcome]) -> None:
        """Feed the drafter, emit new text, and end the requests that are complete."""
        for outcome in outcomes:
            request, step = outcome.request, outcome.step
            try:
                if self._drafts is not None and request.speculates:
                    features = outcome.features
                    if len(step.path) < len(features):
                        features = features[torch.tensor(step.path, device=features.device)]
                    self._drafts.feed(request.slot.row, request.ids, features)
                if text := request.new_text(step):
                    request.handle.emit(text)
            except Exception as error:
                self._scheduler.end(request, Failed(error), keeps_text=False)
                continue
            if request.reason:
                self._scheduler.end(request, request.summary())
