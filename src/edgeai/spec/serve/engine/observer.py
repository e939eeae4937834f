"""Observer protocol of the engine, and the record of one cycle that it receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgeai.spec.serve.engine.events import FinalEvent
from edgeai.spec.serve.engine.tree_policy import Decision


@dataclass(frozen=True)
class CycleStats:
    """Counts and times of one cycle."""

    decision: Decision
    num_requests: int
    """Requests in the pass."""
    num_tokens: int
    """Tokens emitted."""
    num_prompt_tokens: int
    """Prompt tokens read."""
    num_draft_tokens: int
    """Draft tokens verified."""
    num_accepted: tuple[int, ...]
    """Accepted draft tokens of each verified tree."""
    draft_s: float
    verify_s: float
    rest_s: float
    """Acceptance, KV-cache compaction and emission."""


class Observer(Protocol):
    """Receives the engine's statistics, on the engine's thread."""

    def on_cycle(self, cycle: CycleStats) -> None:
        """Called after each cycle."""

    def on_end(self, event: FinalEvent) -> None:
        """Called after each request that occupied a slot."""
