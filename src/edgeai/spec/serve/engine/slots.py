"""Slots: a fixed number of KV-cache sequences, reserved at start-up, with prefix reuse between requests.

A completed request leaves its text in its slot. The next request reuses the prefix that its prompt shares with such a
text: in place if it keeps at least half of the text (the next turn of a conversation), otherwise by copying the prefix
into the least recently used slot, so that a shared system prompt does not evict the conversation it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from edgeai.spec.serve.engine.draft_pool import DraftPool
from edgeai.spec.target.protocol import Cache

_MIN_COPY = 16  # tokens; shorter prefixes are recomputed instead of copied


@dataclass
class Slot:
    """One sequence of the KV cache."""

    row: int
    ids: list[int] = field(default_factory=list)
    """Committed tokens, one per row of the KV cache."""
    is_busy: bool = False
    last_used: int = 0


class Slots:
    """Assigns slots to requests.

    Args:
        cache: The target's keys and values.
        drafts: Draft pool with one row per slot; None without a drafter.
    """

    def __init__(self, cache: Cache, drafts: DraftPool | None) -> None:
        self._cache, self._drafts = cache, drafts
        self._slots = [Slot(row) for row in range(len(cache.lengths))]
        self._clock = 0

    @property
    def num_free(self) -> int:
        """Number of free slots."""
        return sum(not slot.is_busy for slot in self._slots)

    @property
    def num_busy(self) -> int:
        """Number of occupied slots."""
        return len(self._slots) - self.num_free

    def take(self, prompt: Sequence[int], *, speculates: bool, reuses: bool = True) -> Slot | None:
        """Occupy a slot for a prompt; its `ids` are the reused prefix. Returns None if all slots are occupied.

        Args:
            prompt: Prompt of at least one token. The last token is never reused because its logits are needed.
            speculates: True if the drafter's state of the prefix is needed too.
            reuses: False computes the whole prompt, because the logits of all of its tokens are needed.
        """
        free = [slot for slot in self._slots if not slot.is_busy]
        if not free:
            return None
        drafts = self._drafts if speculates else None
        shared = {slot.row: self._shared(slot, prompt, drafts) if reuses else 0 for slot in self._slots}
        best = max(self._slots, key=lambda slot: (shared[slot.row], not slot.is_busy, slot.last_used))
        oldest = min(free, key=lambda slot: (bool(slot.ids), slot.last_used))
        count = shared[best.row]
        if not best.is_busy and (2 * count >= len(best.ids) or best is oldest):
            slot = best
            self._trim(slot, count)
        else:
            slot = oldest
            self._copy(best, slot, count if count >= _MIN_COPY else 0)
        slot.is_busy = True
        return slot

    def give_back(self, slot: Slot, *, keeps_text: bool) -> None:
        """Free a slot.

        Args:
            slot: The slot.
            keeps_text: True keeps the text for reuse by later requests.
        """
        if not keeps_text:
            self._trim(slot, 0)
        self._clock += 1
        slot.is_busy, slot.last_used = False, self._clock

    def _shared(self, slot: Slot, prompt: Sequence[int], drafts: DraftPool | None) -> int:
        """Return the number of prompt tokens that can be reused from a slot."""
        limit = min(len(slot.ids), len(prompt))
        count = next((i for i in range(limit) if slot.ids[i] != prompt[i]), limit)
        if drafts is not None and drafts.reads_features:  # the last reused pair needs the token after it
            return max(min(count - 1, drafts.known(slot.row)), 0)
        return min(count, len(prompt) - 1)

    def _trim(self, slot: Slot, count: int) -> None:
        del slot.ids[count:]
        self._cache.lengths[slot.row] = count
        if self._drafts is not None:
            self._drafts.begin(slot.row, min(count, self._drafts.known(slot.row)))

    @torch.inference_mode()
    def _copy(self, source: Slot, slot: Slot, count: int) -> None:
        slot.ids[:] = source.ids[:count]
        self._cache.copy(source.row, slot.row, count)
        if self._drafts is not None:
            self._drafts.copy(source.row, slot.row, min(count, self._drafts.known(source.row)))
