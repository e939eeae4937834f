"""What clients get: OpenAI's objects, whole or in chunks, and this server's additions.

`metrics.speculative_decoding` has vLLM's names. Source: vLLM documentation, "Per-Request Acceptance Metrics"; like
there it is null for requests with several answers and for those that did not speculate.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from edgeai.spec.serve.engine.jobs import Done, Piece, SpeculationStats, Text
from edgeai.spec.serve.http.requests import Served


class Answer:
    """One choice as it comes."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.done: Done | None = None

    def add(self, text: Text) -> None:
        """More text."""
        self.pieces += text.pieces

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(piece.text for piece in self.pieces)


class Reply:
    """Builds the objects of one reply.

    Args:
        served: The model.
        is_chat: Chat completion or text completion.
        num_choices: Answers in all.
        num_prompts: Prompts they belong to, in order.
        wants_logprobs: Whether log probabilities are part of it.
    """

    def __init__(
        self, served: Served, *, is_chat: bool, num_choices: int, num_prompts: int = 1, wants_logprobs: bool = False
    ) -> None:
        self._served, self._is_chat, self._wants_logprobs = served, is_chat, wants_logprobs
        self._choices_per_prompt = num_choices // num_prompts
        self.answers = [Answer() for _ in range(num_choices)]
        self._sent_chars = [0] * num_choices
        self._head = {
            "id": ("chatcmpl-" if is_chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": f"edgeai-{served.fingerprint}",
        }

    # ------------------------------------------------------------------------------------------------ whole

    def whole(self) -> dict[str, Any]:
        """The reply after all answers are done."""
        choices = []
        for index, answer in enumerate(self.answers):
            assert answer.done is not None, "the answer is over"
            logprobs = self._logprobs(answer.pieces, 0) if self._wants_logprobs else None
            content: dict[str, Any] = {"text": answer.text}
            if self._is_chat:
                content = {"message": {"role": "assistant", "content": answer.text, "refusal": None}}
            choices.append({"index": index, **content, "logprobs": logprobs, "finish_reason": answer.done.reason})
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {
            **self._head,
            "object": kind,
            "choices": choices,
            "usage": self.usage(),
            "metrics": self.metrics(),
        }

    def usage(self) -> dict[str, Any]:
        """Tokens; the prompt of several answers counts once, as with OpenAI."""
        done = [answer.done for answer in self.answers if answer.done]
        num_prompt = sum(d.num_prompt_tokens for d in done[:: self._choices_per_prompt])
        num_tokens = sum(d.num_tokens for d in done)
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_tokens,
            "total_tokens": num_prompt + num_tokens,
            "prompt_tokens_details": {"cached_tokens": done[0].num_reused if done else 0},
        }

    def metrics(self) -> dict[str, Any] | None:
        """How the single answer was made."""
        done = self.answers[0].done
        if len(self.answers) != 1 or done is None:
            return None
        return {
            "speculative_decoding": _speculation(done.stats) if done.stats.num_steps else None,
            "queue_s": done.queue_s,
            "prefill_s": done.prefill_s,
            "decode_s": done.decode_s,
        }

    # ------------------------------------------------------------------------------------------------ chunks

    def first_chunk(self, index: int) -> dict[str, Any] | None:
        """Who speaks; text completions do not say."""
        if not self._is_chat:
            return None
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def text_chunk(self, index: int, text: Text, *, with_speculation: bool) -> dict[str, Any] | None:
        """New text; None if there is nothing to tell."""
        content = "".join(piece.text for piece in text.pieces)
        if not (content or self._wants_logprobs or with_speculation):
            return None
        logprobs = self._logprobs(text.pieces, self._sent_chars[index]) if self._wants_logprobs else None
        self._sent_chars[index] += len(content)
        part: dict[str, Any] = {"delta": {"content": content}} if self._is_chat else {"text": content}
        chunk = self._chunk([{"index": index, **part, "logprobs": logprobs, "finish_reason": None}])
        if with_speculation:
            chunk["speculation"] = {
                "num_drafted": text.num_drafted,
                "num_accepted": text.num_accepted,
                "pieces": [
                    {"token": piece.token, "text": piece.text, "is_draft": piece.is_draft} for piece in text.pieces
                ],
            }
        return chunk

    def last_chunk(self, index: int, done: Done) -> dict[str, Any]:
        """Why it ended; for single answers also how it went."""
        part: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        chunk = self._chunk([{"index": index, **part, "logprobs": None, "finish_reason": done.reason}])
        metrics = self.metrics()
        return {**chunk, "metrics": metrics} if metrics else chunk

    def usage_chunk(self) -> dict[str, Any]:
        """The chunk that `include_usage` asks for."""
        return {**self._chunk([]), "usage": self.usage()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices}

    # ------------------------------------------------------------------------------------------------ log probabilities

    def _logprobs(self, pieces: Sequence[Piece], begin: int) -> dict[str, Any]:
        """In the form of the endpoint; `begin` is where the first piece's text starts in the answer."""
        picked = [piece for piece in pieces if piece.pick is not None]
        if self._is_chat:
            return {"content": [self._token_entry(piece) for piece in picked], "refusal": None}
        offsets, place = [], begin
        for piece in pieces:
            if piece.pick is not None:
                offsets.append(place)
            place += len(piece.text)
        return {
            "tokens": [self._name(piece.token) for piece in picked],
            "token_logprobs": [piece.pick.logprob for piece in picked if piece.pick],
            "top_logprobs": [
                {self._name(token): logprob for token, logprob in piece.pick.top} for piece in picked if piece.pick
            ],
            "text_offset": offsets,
        }

    def _token_entry(self, piece: Piece) -> dict[str, Any]:
        assert piece.pick is not None
        top = [self._entry(token, logprob) for token, logprob in piece.pick.top]
        return {**self._entry(piece.token, piece.pick.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        name = self._name(token)
        return {"token": name, "logprob": logprob, "bytes": list(name.encode())}

    def _name(self, token: int) -> str:
        return self._served.tokenizer.decode([token], keep_special=True)


def _speculation(stats: SpeculationStats) -> dict[str, Any]:
    return {
        "mean_acceptance_length": stats.accept_len,
        "draft_acceptance_rate": stats.num_accepted / stats.num_draft_tokens,
        "acceptance_histogram": {str(count): steps for count, steps in stats.histogram.items()},
        "num_spec_steps": stats.num_steps,
        "num_accepted_draft_tokens": stats.num_accepted,
        "num_draft_tokens": stats.num_draft_tokens,
        "num_spec_tokens": stats.max_draft_tokens,
    }
