"""Continuous batching: every target pass serves many requests, each with its own slot, tree, sampler and seed.

A cycle admits waiting requests to free slots, drafts for the requests that speculate, runs trees and parts of prompts
through the target in one pass, and accepts a path of each tree. One thread does all of this; `submit` and `cancel` may
be called from any thread.

The tokens of a request do not depend on the other requests in the batch: it draws from its own generator, once per
token, from logits computed from its own text. On the native runtime and in float32 the text equals plain decoding token
for token. In lower precision, rounding may decide near-ties differently when the batch leads to other trees; see
`lossless.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edgeai.spec.serve.engine.cycle import CycleRunner
from edgeai.spec.serve.engine.draft_pool import DraftPool
from edgeai.spec.serve.engine.events import OnEvent
from edgeai.spec.serve.engine.jobs import GenerationJob, Handle
from edgeai.spec.serve.engine.observer import Observer
from edgeai.spec.serve.engine.request_queue import RequestQueue
from edgeai.spec.serve.engine.scheduler import Scheduler
from edgeai.spec.serve.engine.slots import Slots
from edgeai.spec.serve.engine.tree_policy import Policy
from edgeai.spec.target.protocol import Target


class Engine:
    """Answers requests.

    Args:
        target: The model.
        drafts: Drafts for all slots; None decodes plainly.
        policy: Chooses the tree of each cycle.
        num_slots: Most requests decoded at once.
        context: Most tokens of prompt and answer.
        queue: Most waiting requests.
        prompt_chunk: Most prompt tokens read in one cycle while other requests decode.
        observer: Receives statistics of cycles and ended requests.
    """

    def __init__(
        self,
        target: Target,
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
        self._cache = target.new_cache(context + (policy.largest.nodes + 1 if policy.largest else 1), num_slots)
        self._target, self._queue, self._observer = target, RequestQueue(queue), observer
        self._scheduler = Scheduler(
            self._queue,
            Slots(self._cache, drafts),
            target.tokenizer,
            can_draft=drafts is not None,
            observer=observer,
        )
        self._cycles = CycleRunner(target, self._cache, drafts, policy, self._scheduler, prompt_chunk=prompt_chunk)
        self._thread: threading.Thread | None = None
        self.after_step: Callable[[], None] = lambda: None
        """Called on the engine's thread after the events of each cycle; may be replaced before `start`."""

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[GenerationJob], on_events: Sequence[OnEvent]) -> list[Handle]:
        """Queue all jobs or none.

        Args:
            jobs: Jobs whose prompt and answer fit the context.
            on_events: One event listener per job; called on the engine's thread, must not block.

        Raises:
            QueueFull: Too many requests are waiting.
            EngineClosed: The engine is draining or closed.
        """
        handles = [Handle(job, on_event) for job, on_event in zip(jobs, on_events, strict=True)]
        self._queue.put(handles, num_free=self._scheduler.num_free)
        return handles

    def cancel(self, handle: Handle) -> None:
        """Cancel a request before the next cycle; does nothing if it is complete."""
        handle.is_cancelled = True
        self._queue.wake()

    @property
    def num_waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._queue)

    @property
    def num_active(self) -> int:
        """Number of requests in slots."""
        return self._scheduler.num_active

    @property
    def status(self) -> str:
        """ok, draining, or broken if the engine's thread has died."""
        if self._thread is not None and not self._thread.is_alive() and not self._queue.is_closed:
            return "broken"
        return "draining" if self._queue.is_draining or self._queue.is_closed else "ok"

    def drain(self) -> None:
        """Reject new requests and finish the queued and active ones."""
        self._queue.drain()

    def close(self, timeout_s: float = 10.0) -> None:
        """Cancel all requests and end the engine's thread."""
        self._queue.close()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def step(self) -> None:
        """Run one cycle on the calling thread. Other threads may not call it once the engine is started."""
        self._scheduler.drop_cancelled()
        self._scheduler.admit()
        if not self._scheduler.active:
            return
        cycle = self._cycles.run()
        if self._observer:
            self._observer.on_cycle(cycle)

    def _work(self) -> None:
        with self._target.decoding():
            while self._queue.wait(is_busy=bool(self._scheduler.active)):
                try:
                    self.step()
                except Exception as error:  # a bug outside of any one request: no client may wait for ever
                    self._scheduler.fail_all(error)
                self.after_step()
        self._scheduler.cancel_all()
        self.after_step()
