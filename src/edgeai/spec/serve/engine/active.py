"""One request while it is worked on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.serve.engine.jobs import Done, Event, FinishReason, Pick, Piece, SpeculationStats, Text
from edgeai.spec.serve.engine.sampler import RequestSampler
from edgeai.spec.serve.engine.slots import Slot
from edgeai.spec.serve.engine.text import TextStream
from edgeai.spec.target.segments import SegmentResult
from edgeai.spec.target.target import Tokenizer

if TYPE_CHECKING:
    from edgeai.spec.serve.engine.engine import Handle


@dataclass(frozen=True)
class Step:
    """What one pass meant for one request."""

    path: tuple[int, ...]
    """New rows of the cache to keep."""
    read: list[int]
    """Their tokens."""
    tokens: tuple[int, ...]
    """Emitted."""
    tree: DraftTree | None
    """What was verified; None while reading the prompt."""
    picks: tuple[Pick, ...]


class Active:
    """State of one request.

    Args:
        handle: The request.
        slot: Its slot, with the prompt's shared beginning.
        tokenizer: The target's.
        speculates: Whether trees are drafted for it.
    """

    def __init__(self, handle: Handle, slot: Slot, tokenizer: Tokenizer, *, speculates: bool) -> None:
        self.handle, self.slot, self.speculates = handle, slot, speculates
        self.num_reused = len(slot.ids)
        self.text = list(handle.job.prompt_ids)
        """Prompt and answer; the last token of an answer is not read yet."""
        self.reason: FinishReason | None = None
        self._num_tokens = 0
        self._num_prompt = len(self.text)
        self._sampler = RequestSampler(handle.job)
        self._stream = TextStream(tokenizer, handle.job.stop)
        self._histogram: Counter[int] = Counter()
        self._num_drafted = self._max_drafted = 0
        self._admitted_s = self._first_s = time.perf_counter()

    @property
    def is_decoding(self) -> bool:
        """Whether the prompt has been read."""
        return self._num_tokens > 0

    @property
    def remaining(self) -> int:
        """Tokens that may still be emitted."""
        return self.handle.job.max_tokens - self._num_tokens

    @property
    def rest_of_prompt(self) -> list[int]:
        """What has not been read of the prompt."""
        return self.text[len(self.slot.ids) :]

    def read(self, ids: list[int], result: SegmentResult, eos_ids: Collection[int]) -> Step:
        """Part of the prompt has been read; the first token follows the last part."""
        tokens: tuple[int, ...] = ()
        if result.logits.shape[0]:
            tokens = (self._sampler.picker(result.logits)(0),)
            self._first_s = time.perf_counter()
        return self._emit(Step(tuple(range(len(ids))), ids, tokens, None, self._take_picks()), eos_ids)

    def verify(self, tree: DraftTree, result: SegmentResult, eos_ids: Collection[int]) -> Step:
        """A tree has been scored."""
        accepted = accept(tree, result.logits, self._sampler, eos_ids=eos_ids, limit=self.remaining)
        if tree.size > 1:
            self._histogram[accepted.num_accepted] += 1
            self._num_drafted += tree.size - 1
            self._max_drafted = max(self._max_drafted, tree.size - 1)
        read = [self.text[-1], *accepted.tokens[: accepted.num_accepted]]
        return self._emit(Step(accepted.path, read, accepted.tokens, tree, self._take_picks()), eos_ids)

    def tell(self, step: Step) -> Iterator[Event]:
        """The new text, if any; also notices stop texts."""
        num_accepted = len(step.path) - 1 if step.tree else 0
        pieces: list[Piece] = []
        for place, token in enumerate(step.tokens):
            pick = step.picks[place] if step.picks else None
            pieces += self._stream.feed(token, is_draft=place < num_accepted, pick=pick)
            if self._stream.is_stopped:
                self.reason = "stop"
                break
        if self.reason and not self._stream.is_stopped:
            pieces += self._stream.finish()
        if pieces:
            yield Text(tuple(pieces), num_accepted, step.tree.size - 1 if step.tree else 0)

    def summary(self) -> Done:
        """How it went."""
        assert self.reason is not None
        now_s = time.perf_counter()
        return Done(
            reason=self.reason,
            num_prompt_tokens=self._num_prompt,
            num_reused=self.num_reused,
            num_tokens=self._stream.num_tokens,
            stats=SpeculationStats(
                num_steps=sum(self._histogram.values()),
                num_draft_tokens=self._num_drafted,
                num_accepted=sum(count * steps for count, steps in self._histogram.items()),
                histogram=dict(sorted(self._histogram.items())),
                max_draft_tokens=self._max_drafted,
            ),
            queue_s=self._admitted_s - self.handle.submitted_s,
            prefill_s=self._first_s - self._admitted_s,
            decode_s=now_s - self._first_s,
        )

    def _emit(self, step: Step, eos_ids: Collection[int]) -> Step:
        self.text += step.tokens
        self._num_tokens += len(step.tokens)
        if step.tokens and step.tokens[-1] in eos_ids:
            self.reason = "stop"
        elif step.tokens and self.remaining <= 0:
            self.reason = "length"
        return step

    def _take_picks(self) -> tuple[Pick, ...]:
        picks, self._sampler.picks = tuple(self._sampler.picks), []
        return picks
