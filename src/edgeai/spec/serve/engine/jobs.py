"""Input of the engine: one job per answer, and the handle of a submitted job. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constraint import Grammar
from edgeai.spec.serve.engine.events import Event, OnEvent


@dataclass(frozen=True)
class GenerationJob:
    """One answer to one prompt."""

    prompt_ids: tuple[int, ...]
    max_tokens: int
    """Most tokens generated, possibly 0 with `echoes`; prompt and answer must fit the context."""
    sampling: SamplingConfig
    stop: tuple[str, ...] = ()
    """Stop texts: the answer ends before the first of them."""
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end the answer, besides the model's own; they belong to it."""
    speculates: bool = True
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit once per occurrence in the answer."""
    presence_penalty: float = 0.0
    """Subtracted once from the logits of all tokens that occur in the answer."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    num_logprobs: int | None = None
    """Alternatives reported per token; None reports no log probabilities."""
    echoes: bool = False
    """True emits the prompt before the answer, with the log probabilities of its tokens if they are reported."""
    grammar: Grammar | None = None
    """Grammar that the answer follows; None allows every text."""

    @property
    def needs_prompt_logits(self) -> bool:
        """True if the target has to score every token of the prompt."""
        return self.echoes and self.num_logprobs is not None


class Handle:
    """A submitted job.

    Args:
        job: The job.
        on_event: Listener for the job's events; called on the engine's thread, must not block.
    """

    def __init__(self, job: GenerationJob, on_event: OnEvent) -> None:
        self.job, self._on_event = job, on_event
        self.submitted_s = time.perf_counter()
        self.is_cancelled = False

    def emit(self, event: Event) -> None:
        """Deliver an event. A listener that raises cancels its own request and does not stop the engine."""
        try:
            self._on_event(event)
        except Exception:
            self.is_cancelled = True
