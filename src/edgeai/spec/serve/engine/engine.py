"""Continuous batching: many requests in every pass of the target, each with its own slot, tree, sampler and seed.

A cycle: admit waiting requests to free slots, draft for those that speculate, run trees and parts of prompts through
the target in one pass, then walk each request along its own choices. One thread does all of this; `submit` and `cancel`
may be called from any.

What a request writes does not depend on its neighbours: it draws from its own generator, once per token, from logits
that are computed from its own text. In float32 the text is that of plain decoding, token for token. Below, rounding may
decide near-ties otherwise when the batch leads to other trees; see `lossless.py`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from edgeai.core.errors import EdgeAIError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.tree import DraftTree, root_only
from edgeai.spec.serve.engine.active import Active
from edgeai.spec.serve.engine.drafting import DraftPool
from edgeai.spec.serve.engine.jobs import Cancelled, Done, Event, Failed, Job, Started
from edgeai.spec.serve.engine.policy import Decision, Policy
from edgeai.spec.serve.engine.slots import Slots
from edgeai.spec.target.segments import Segment, SegmentResult, commit_paths, prompt_segment, run_segments, tree_segment
from edgeai.spec.target.target import DecoderTarget

OnEvent = Callable[[Event], None]


class QueueFull(EdgeAIError):
    """There are as many waiting requests as the queue holds."""


class Closed(EdgeAIError):
    """The engine takes no more requests."""


class Observer(Protocol):
    """Hears what the engine does, on its thread."""

    def on_cycle(self, cycle: Cycle) -> None:
        """A cycle is over."""

    def on_end(self, event: Done | Failed | Cancelled) -> None:
        """A request is over."""


class Cycle:
    """Facts of one cycle."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.num_requests = 0
        self.num_waiting = 0
        self.num_tokens = 0
        """Emitted."""
        self.num_prompt_tokens = 0
        """Read."""
        self.num_drafted = 0
        self.accepted: list[int] = []
        """Draft tokens accepted, for each tree."""
        self.draft_s = self.verify_s = self.rest_s = 0.0


class Handle:
    """A submitted request."""

    def __init__(self, job: Job, on_event: OnEvent) -> None:
        self.job, self.on_event = job, on_event
        self.submitted_s = time.perf_counter()
        self.is_cancelled = False


class Engine:
    """Works on requests.

    Args:
        target: The model.
        drafts: Drafts for all slots; None decodes plainly.
        policy: Chooses the trees.
        num_slots: Requests worked on at once.
        context: Most tokens of prompt and answer.
        queue: Requests that may wait.
        prompt_chunk: Most prompt tokens read in one cycle while others decode.
        observer: Hears what happens.
    """

    def __init__(
        self,
        target: DecoderTarget,
        drafts: DraftPool | None,
        policy: Policy,
        *,
        num_slots: int,
        context: int,
        queue: int,
        prompt_chunk: int = 256,
        observer: Observer | None = None,
    ) -> None:
        self.context = context
        self.num_slots = num_slots
        self._target, self._drafts, self._policy = target, drafts, policy
        self._cache = target.new_cache(context + (policy.largest.nodes + 1 if policy.largest else 1), num_slots)
        self._slots = Slots(self._cache, drafts)
        self._queue, self._chunk, self._observer = queue, prompt_chunk, observer
        self._waiting: deque[Handle] = deque()
        self._active: list[Active] = []
        self._changed = threading.Condition()
        self._is_draining = self._is_closed = False
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------------------------------------- any thread

    def start(self) -> None:
        """Begin to work, in a thread of its own."""
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job], on_events: Sequence[OnEvent]) -> list[Handle]:
        """Queue requests, all or none.

        Args:
            jobs: Their prompts must fit the context.
            on_events: Called with what happens to each, on the engine's thread; must not block.

        Raises:
            QueueFull: Too many are waiting.
            Closed: The engine is draining or closed.
        """
        handles = [Handle(job, on_event) for job, on_event in zip(jobs, on_events, strict=True)]
        with self._changed:
            if self._is_draining or self._is_closed:
                raise Closed("the server is shutting down", hint="try another server, or this one later")
            room = self._queue + self._slots.num_free
            if len(self._waiting) + len(jobs) > room:
                raise QueueFull(
                    f"{len(self._waiting)} requests are waiting, the queue is full", hint="try again in a moment"
                )
            self._waiting.extend(handles)
            self._changed.notify()
        return handles

    def cancel(self, handle: Handle) -> None:
        """Stop working on a request before the next cycle; harmless if it is over."""
        handle.is_cancelled = True
        with self._changed:
            self._changed.notify()

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def num_active(self) -> int:
        """Requests in slots."""
        return self._slots.num_busy

    @property
    def status(self) -> str:
        """ok, draining, or broken if the thread has died."""
        if self._thread is not None and not self._thread.is_alive() and not self._is_closed:
            return "broken"
        return "draining" if self._is_draining or self._is_closed else "ok"

    def drain(self) -> None:
        """Take no more requests; those here are finished."""
        with self._changed:
            self._is_draining = True
            self._changed.notify()

    def close(self, timeout_s: float = 10.0) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    # ---------------------------------------------------------------------------------------------- engine's thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._waiting or self._active)
                if self._is_closed:
                    break
            try:
                self.step()
            except Exception as error:  # a bug outside of any one request: nobody may be left waiting for ever
                for active in list(self._active):
                    self._end(active, Failed(error), keeps_text=False)
        for active in list(self._active):
            self._end(active, Cancelled())
        while self._waiting:
            self._tell(self._waiting.popleft(), Cancelled())

    def step(self) -> None:
        """One cycle. Without `start`, the caller's thread is the engine's."""
        self._drop_cancelled()
        self._admit()
        if not self._active:
            return
        begin_s = time.perf_counter()
        drafting = [active for active in self._active if active.is_decoding and active.speculates]
        num_others = sum(active.is_decoding for active in self._active) - len(drafting)
        cycle = Cycle(self._policy.choose(len(drafting), num_others))
        trees = self._draft(drafting, cycle.decision.tree)
        work = self._segments(trees)
        drafted_s = time.perf_counter()
        results = self._run(work)
        verified_s = time.perf_counter()
        self._advance(work, results, trees, cycle)
        cycle.draft_s, cycle.verify_s = drafted_s - begin_s, verified_s - drafted_s
        cycle.rest_s = time.perf_counter() - verified_s
        cycle.num_waiting = len(self._waiting)
        if self._observer:
            self._observer.on_cycle(cycle)

    def _drop_cancelled(self) -> None:
        for active in [active for active in self._active if active.handle.is_cancelled]:
            self._end(active, Cancelled())
        with self._changed:
            gone = [handle for handle in self._waiting if handle.is_cancelled]
            for handle in gone:
                self._waiting.remove(handle)
        for handle in gone:
            self._tell(handle, Cancelled())

    def _admit(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or not self._slots.num_free:
                    return
                handle = self._waiting.popleft()
            speculates = handle.job.speculates and self._drafts is not None
            try:
                slot = self._slots.take(handle.job.prompt_ids, speculates=speculates)
            except Exception as error:
                self._tell(handle, Failed(error))
                continue
            assert slot is not None, "a slot was free"
            active = Active(handle, slot, self._target.tokenizer, speculates=speculates)
            self._active.append(active)
            self._tell(handle, Started(active.num_reused))

    def _draft(self, drafting: Sequence[Active], tree: TreeConfig | None) -> dict[int, DraftTree]:
        """Trees by slot; no deeper than can still be emitted, which keeps every position inside the context."""
        if tree is None or self._drafts is None:
            return {}
        depths: dict[int, list[Active]] = {}
        for active in drafting:
            depth = min(tree.depth, active.remaining - 1)
            if depth > 0:  # a draft token accepted at the last place would leave no room for the bonus token
                depths.setdefault(depth, []).append(active)
        trees: dict[int, DraftTree] = {}
        for depth, group in depths.items():
            cut = tree if depth == tree.depth else tree.model_copy(update={"depth": depth})
            rows = [active.slot.row for active in group]
            try:
                drafted = self._drafts.propose(rows, [active.text for active in group], cut)
            except Exception as error:
                for active in group:  # nobody knows what the drafter has kept
                    self._end(active, Failed(error), keeps_text=False)
                continue
            trees.update(zip(rows, drafted, strict=True))
        return trees

    def _segments(self, trees: dict[int, DraftTree]) -> list[tuple[Active, Segment]]:
        """What each request wants from the next pass; prompts share a budget unless nobody is kept waiting."""
        budget = self._chunk if any(active.is_decoding for active in self._active) else 2 * self._chunk
        work = []
        for active in self._active:
            row = active.slot.row
            if active.is_decoding:
                if row not in trees:
                    trees[row] = root_only(active.text[-1])
                work.append((active, tree_segment(row, trees[row])))
            elif budget > 0:
                part = active.rest_of_prompt[:budget]
                budget -= len(part)
                is_last = len(part) == len(active.rest_of_prompt)
                work.append((active, prompt_segment(row, part, is_last=is_last)))
        return work

    def _run(self, work: Sequence[tuple[Active, Segment]]) -> list[SegmentResult | Exception]:
        """The pass; if it breaks, each request alone, so that only the one that breaks it is lost."""
        wants_features = self._drafts is not None and self._drafts.reads_features
        aux = self._target.aux_layers if wants_features and any(active.speculates for active, _ in work) else ()
        segments = [segment for _, segment in work]

        def run(part: Sequence[Segment]) -> list[SegmentResult]:
            return run_segments(self._target.decoder, part, self._cache, aux)

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

    def _advance(
        self,
        work: Sequence[tuple[Active, Segment]],
        results: Sequence[SegmentResult | Exception],
        trees: dict[int, DraftTree],
        cycle: Cycle,
    ) -> None:
        """Accept, commit, tell, finish."""
        paths = []
        done = []
        for (active, segment), result in zip(work, results, strict=True):
            try:
                if isinstance(result, Exception):
                    raise result
                if active.is_decoding:
                    step = active.verify(trees[active.slot.row], result, self._target.tokenizer.eos_ids)
                else:
                    step = active.read(segment.tokens.tolist(), result, self._target.tokenizer.eos_ids)
            except Exception as error:
                self._end(active, Failed(error), keeps_text=False)
                continue
            paths.append((active.slot.row, step.path))
            done.append((active, step, result))
            cycle.num_requests += 1
            cycle.num_tokens += len(step.tokens)
            cycle.num_prompt_tokens += 0 if step.tree else len(step.path)
            if step.tree and step.tree.size > 1:
                cycle.num_drafted += step.tree.size - 1
                cycle.accepted.append(len(step.path) - 1)
                if cycle.decision.tree and active.remaining + len(step.tokens) > cycle.decision.tree.depth:
                    self._policy.observe(cycle.decision.tree, len(step.path) - 1)
        commit_paths(self._cache, paths)
        for active, step, result in done:
            active.slot.ids += step.read
            try:
                if self._drafts is not None and active.speculates:
                    path = torch.tensor(step.path, device=result.features.device)
                    self._drafts.feed(active.slot.row, active.text, result.features[path])
                for event in active.tell(step):
                    self._tell(active.handle, event)
            except Exception as error:
                self._end(active, Failed(error), keeps_text=False)
                continue
            if active.reason:
                self._end(active, active.summary())

    def _end(self, active: Active, event: Done | Failed | Cancelled, *, keeps_text: bool = True) -> None:
        if active in self._active:
            self._active.remove(active)
            self._slots.give_back(active.slot, keeps_text=keeps_text)
            self._tell(active.handle, event)
            if self._observer:
                self._observer.on_end(event)

    def _tell(self, handle: Handle, event: Event) -> None:
        """A listener that breaks must not break the engine: its request is dropped."""
        try:
            handle.on_event(event)
        except Exception:
            handle.is_cancelled = True
