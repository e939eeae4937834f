"""Slots: the sequences of the target's cache, a fixed number of them, whose memory is reserved at the start.

A finished request leaves its text in its slot. The next request takes over what its prompt shares with such a text: in
place if most of the text goes on, which is a conversation's next turn, otherwise by copying into the slot unused for
longest, so that a shared system prompt does not cost the conversation that brought it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from edgeai.spec.serve.engine.drafting import DraftPool
from edgeai.spec.target.decoder import KVCache, Shape

_MIN_COPY = 16  # tokens below which copying keys and values is not worth it


@dataclass
class Slot:
    """One sequence of the cache."""

    row: int
    ids: list[int] = field(default_factory=list)
    """Committed tokens; as many as the cache has rows of them."""
    is_busy: bool = False
    last_used: int = 0


class Slots:
    """Hands out slots.

    Args:
        cache: The target's keys and values.
        drafts: Keeps a place for each slot as well; None without a drafter.
    """

    def __init__(self, cache: KVCache, drafts: DraftPool | None) -> None:
        self._cache, self._drafts = cache, drafts
        self._slots = [Slot(row) for row in range(len(cache.lengths))]
        self._clock = 0

    @property
    def num_free(self) -> int:
        """Slots that a request could have now."""
        return sum(not slot.is_busy for slot in self._slots)

    @property
    def num_busy(self) -> int:
        """Slots in use."""
        return len(self._slots) - self.num_free

    def take(self, prompt: Sequence[int], *, speculates: bool) -> Slot | None:
        """A slot for a prompt, with the shared beginning in its `ids`; None if all are busy.

        Args:
            prompt: At least one token. The last one is never taken over, for its logits are needed.
            speculates: Whether the drafter's memory of the shared beginning is needed too.
        """
        free = [slot for slot in self._slots if not slot.is_busy]
        if not free:
            return None
        drafts = self._drafts if speculates else None
        shared = {slot.row: self._shared(slot, prompt, drafts) for slot in self._slots}
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
        """The request is over; its text stays for the next one unless something went wrong with it."""
        if not keeps_text:
            self._trim(slot, 0)
        self._clock += 1
        slot.is_busy, slot.last_used = False, self._clock

    def _shared(self, slot: Slot, prompt: Sequence[int], drafts: DraftPool | None) -> int:
        """Tokens of the slot's text that the prompt can take over."""
        limit = min(len(slot.ids), len(prompt))
        count = next((i for i in range(limit) if slot.ids[i] != prompt[i]), limit)
        if drafts is not None and drafts.reads_features:  # the pair of the last token kept needs the one after it
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
        self._cache.lengths[slot.row] = count
        if count:
            for part in (*self._cache.k, *self._cache.v):
                part[slot.row, :, :count] = part[source.row, :, :count]
        if self._drafts is not None:
            self._drafts.copy(source.row, slot.row, min(count, self._drafts.known(source.row)))


def bytes_per_token(shape: Shape, itemsize: int) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * itemsize
