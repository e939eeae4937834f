"""Admission of waiting requests to slots, and the end of requests."""

from __future__ import annotations

from edgeai.spec.serve.engine.events import Cancelled, Failed, FinalEvent, Started
from edgeai.spec.serve.engine.observer import Observer
from edgeai.spec.serve.engine.request_queue import RequestQueue
from edgeai.spec.serve.engine.request_state import RequestState
from edgeai.spec.serve.engine.slots import Slots
from edgeai.spec.target.protocol import Tokenizer


class Scheduler:
    """Keeps the active requests, each in its own slot. Only the engine's thread may use it.

    Args:
        queue: Waiting requests.
        slots: Sequences of the KV cache.
        tokenizer: The target's tokenizer.
        can_draft: True if the engine has a drafter.
        observer: Notified of ended requests.
    """

    def __init__(
        self, queue: RequestQueue, slots: Slots, tokenizer: Tokenizer, *, can_draft: bool, observer: Observer | None
    ) -> None:
        self._queue, self._slots, self._tokenizer = queue, slots, tokenizer
        self._can_draft, self._observer = can_draft, observer
        self.active: list[RequestState] = []

    @property
    def num_active(self) -> int:
        """Number of occupied slots; may be read from any thread."""
        return self._slots.num_busy

    @property
    def num_free(self) -> int:
        """Number of free slots; may be read from any thread."""
        return self._slots.num_free

    def drop_cancelled(self) -> None:
        """End the cancelled requests, active and waiting."""
        for request in [request for request in self.active if request.handle.is_cancelled]:
            self.end(request, Cancelled())
        for handle in self._queue.pop_cancelled():
            handle.emit(Cancelled())

    def admit(self) -> None:
        """Move waiting requests to free slots, oldest first."""
        while self._slots.num_free and (handle := self._queue.pop()) is not None:
            job = handle.job
            speculates = job.speculates and self._can_draft and job.max_tokens > 0
            try:
                slot = self._slots.take(job.prompt_ids, speculates=speculates, reuses=not job.needs_prompt_logits)
            except Exception as error:
                handle.emit(Failed(error))
                continue
            assert slot is not None, "a slot was free"
            request = RequestState(handle, slot, self._tokenizer, speculates=speculates)
            self.active.append(request)
            handle.emit(Started(request.num_reused))

    def end(self, request: RequestState, event: FinalEvent, *, keeps_text: bool = True) -> None:
        """Free the slot of an active request and emit its last event; does nothing if the request has ended already.

        Args:
            request: The request.
            event: Its last event.
            keeps_text: False empties the slot, because its keys and values cannot be trusted.
        """
        if request not in self.active:
            return
        self.active.remove(request)
        self._slots.give_back(request.slot, keeps_text=keeps_text)
        request.handle.emit(event)
        if self._observer:
            self._observer.on_end(event)

    def fail_all(self, error: Exception) -> None:
        """End all active requests with an error; no slot keeps its text."""
        for request in list(self.active):
            self.end(request, Failed(error), keeps_text=False)

    def cancel_all(self) -> None:
        """Cancel all requests, active and waiting."""
        for request in list(self.active):
            self.end(request, Cancelled())
        while (handle := self._queue.pop()) is not None:
            handle.emit(Cancelled())
