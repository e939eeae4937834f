"""State of one active request: its text, sampler, stop conditions and statistics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.serve.engine.events import Done, FinishReason, Piece, SpeculationStats, Text, TokenLogprobs
from edgeai.spec.serve.engine.jobs import Handle
from edgeai.spec.serve.engine.sampler import RequestSampler, token_logprobs
from edgeai.spec.serve.engine.slots import Slot
from edgeai.spec.serve.engine.text_stream import TextStream
from edgeai.spec.target.protocol import SegmentResult, Tokenizer


@dataclass(frozen=True)
class RequestStep:
    """Outcome of one target pass for one request."""

    path: tuple[int, ...]
    """New rows of the KV cache to keep."""
    read: list[int]
    """Tokens of these rows."""
    tokens: tuple[int, ...]
    """Tokens emitted."""
    tree: DraftTree | None
    """Verified tree; None while the prompt is being read."""
    logprobs: tuple[TokenLogprobs, ...]
    """Log probabilities of the emitted tokens; empty unless requested."""

    @property
    def num_draft_tokens(self) -> int:
        """Number of draft tokens verified."""
        return self.tree.size - 1 if self.tree else 0

    @property
    def num_accepted(self) -> int:
        """Number of draft tokens accepted."""
        return len(self.path) - 1 if self.tree else 0


class RequestState:
    """State of one active request.

    Args:
        handle: The submitted job.
        slot: Its slot, which holds the reused beginning of the prompt.
        tokenizer: The target's tokenizer.
        speculates: True if trees are drafted for this request.
    """

    def __init__(self, handle: Handle, slot: Slot, tokenizer: Tokenizer, *, speculates: bool) -> None:
        self.handle, self.slot, self.speculates = handle, slot, speculates
        self.num_reused = len(slot.ids)
        self.ids = list(handle.job.prompt_ids)
        """Tokens of prompt and answer; the target has not read the last token of the answer."""
        self.reason: FinishReason | None = None
        """Why the answer ended; None while it is being generated."""
        self._num_tokens = 0
        self._num_prompt = len(self.ids)
        grammar = handle.job.grammar
        self.constraint = grammar.start() if grammar else None
        """Constraint that has read all tokens of the answer; None without a grammar."""
        self._sampler = RequestSampler(handle.job, self.constraint)
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer, handle.job.stop)
        self._prompt_logprobs: list[TokenLogprobs | None] = [None]  # nothing comes before the first token
        self._histogram: Counter[int] = Counter()
        self._num_drafted = self._max_drafted = 0
        self._admitted_s = self._first_s = time.perf_counter()

    @property
    def is_decoding(self) -> bool:
        """True once the prompt has been read."""
        return self._num_tokens > 0

    @property
    def remaining(self) -> int:
        """Number of tokens that may still be emitted."""
        return self.handle.job.max_tokens - self._num_tokens

    @property
    def unread_prompt(self) -> list[int]:
        """Prompt tokens that the target has not read."""
        return self.ids[len(self.slot.ids) :]

    def read(self, ids: list[int], result: SegmentResult, eos_ids: Collection[int]) -> RequestStep:
        """Record a pass over part of the prompt; the last part yields the first token, unless none is wanted."""
        tokens: tuple[int, ...] = ()
        begin = len(self.slot.ids)
        job = self.handle.job
        if job.needs_prompt_logits:
            following = self.ids[begin + 1 : begin + len(ids) + 1]
            self._prompt_logprobs += [
                token_logprobs(logits, token, job.num_logprobs or 0)
                for logits, token in zip(result.logits, following, strict=False)  # the last row may have no follower
            ]
        if begin + len(ids) == self._num_prompt:
            if self.remaining > 0:
                tokens = (self._sampler.picker(result.logits[-1:])(0),)
            else:
                self.reason = "length"
            self._first_s = time.perf_counter()
        return self._advance(RequestStep(tuple(range(len(ids))), ids, tokens, None, self._take_logprobs()), eos_ids)

    def verify(self, tree: DraftTree, result: SegmentResult, eos_ids: Collection[int]) -> RequestStep:
        """Accept a path of a tree that the target has scored."""
        accepted = accept(tree, result.logits, self._sampler, eos_ids=eos_ids, limit=self.remaining)
        if tree.size > 1:
            self._histogram[accepted.num_accepted] += 1
            self._num_drafted += tree.size - 1
            self._max_drafted = max(self._max_drafted, tree.size - 1)
        read = [self.ids[-1], *accepted.tokens[: accepted.num_accepted]]
        return self._advance(RequestStep(accepted.path, read, accepted.tokens, tree, self._take_logprobs()), eos_ids)

    def new_text(self, step: RequestStep) -> Text | None:
        """Return the text of a step, or None if it is held back; sets `reason` if a stop text is complete."""
        pieces: list[Piece] = []
        if self.handle.job.echoes and step.tree is None and (step.tokens or self.reason):
            pieces += self._echo()
        for place, token in enumerate(step.tokens):
            logprobs = step.logprobs[place] if step.logprobs else None
            pieces += self._stream.feed(token, is_draft=place < step.num_accepted, logprobs=logprobs)
            if self._stream.is_stopped:
                self.reason = "stop"
                break
        if self.reason and not self._stream.is_stopped:
            pieces += self._stream.finish()
        return Text(tuple(pieces), step.num_accepted, step.num_draft_tokens) if pieces else None

    def summary(self) -> Done:
        """Return the final event, with token counts and times."""
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

    def _advance(self, step: RequestStep, eos_ids: Collection[int]) -> RequestStep:
        self.ids += step.tokens
        self._num_tokens += len(step.tokens)
        if step.tokens and step.tokens[-1] in eos_ids:
            self.reason = "stop"
        elif step.tokens and self.remaining <= 0:
            self.reason = "length"
        return step

    def _echo(self) -> list[Piece]:
        """Return the prompt as pieces."""
        prompt = self.ids[: self._num_prompt]
        logprobs = self._prompt_logprobs if self.handle.job.needs_prompt_logits else [None] * len(prompt)
        stream = TextStream(self._tokenizer, ())
        pieces: list[Piece] = []
        for token, one in zip(prompt, logprobs, strict=True):
            pieces += stream.feed(token, is_draft=False, logprobs=one)
        return pieces + stream.finish()

    def _take_logprobs(self) -> tuple[TokenLogprobs, ...]:
        logprobs, self._sampler.logprobs = tuple(self._sampler.logprobs), []
        return logprobs
