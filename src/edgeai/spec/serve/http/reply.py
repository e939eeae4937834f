"""Response objects in OpenAI's format, whole or in chunks, with this server's extensions.

`metrics.speculative_decoding` has vLLM's names. Source: vLLM documentation, "Per-Request Acceptance Metrics". As there,
it is null for requests with several answers and for requests without speculation.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeai.spec.serve.engine.events import Done, Piece, SpeculationStats, Text, TokenLogprobs
from edgeai.spec.serve.http.request_jobs import ServedModel
from edgeai.spec.serve.http.token_names import completion_name, token_bytes, token_text, unique_names


@dataclass
class Answer:
    """One choice of a reply, filled while it is generated."""

    pieces: list[Piece] = field(default_factory=list)
    done: Done | None = None

    @property
    def text(self) -> str:
        """Text so far."""
        return "".join(piece.text for piece in self.pieces)


class Reply:
    """Builds the response objects of one request.

    Args:
        served: The served model.
        is_chat: True for a chat completion, False for a text completion.
        num_choices: Number of answers.
        num_prompts: Number of prompts; each has the same number of answers, in order.
        wants_logprobs: True if log probabilities were requested.
        prompt_ids: Token ids of the prompts; given if token ids were requested.
    """

    def __init__(
        self,
        served: ServedModel,
        *,
        is_chat: bool,
        num_choices: int,
        num_prompts: int = 1,
        wants_logprobs: bool = False,
        prompt_ids: Sequence[Sequence[int]] = (),
    ) -> None:
        self._served, self._is_chat, self._wants_logprobs = served, is_chat, wants_logprobs
        self._choices_per_prompt = num_choices // num_prompts
        self._prompt_ids = [list(ids) for ids in prompt_ids]
        self.answers = [Answer() for _ in range(num_choices)]
        self._sent_chars = [0] * num_choices
        self._has_sent = [False] * num_choices
        self._head = {
            "id": ("chatcmpl-" if is_chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": f"edgeai-{served.fingerprint}",
        }

    def whole(self) -> dict[str, Any]:
        """Return the whole response; all answers must be done."""
        choices = []
        for index, answer in enumerate(self.answers):
            assert answer.done is not None, "the answer is done"
            logprobs = self._logprobs(answer.pieces, 0) if self._wants_logprobs else None
            content: dict[str, Any] = {"text": answer.text}
            if self._is_chat:
                content = {"message": {"role": "assistant", "content": answer.text, "refusal": None}}
            content |= self._token_ids(index, answer.pieces, is_first=True)
            choices.append({"index": index, **content, "logprobs": logprobs, "finish_reason": answer.done.reason})
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {
            **self._head,
            "object": kind,
            "choices": choices,
            "usage": self.usage(),
            "metrics": self.metrics(),
            **self._chat_prompt_ids(),
        }

    def usage(self) -> dict[str, Any]:
        """Return the token counts; a prompt with several answers counts once, as with OpenAI."""
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
        """Return acceptance and times of a single answer; None for several answers."""
        done = self.answers[0].done
        if len(self.answers) != 1 or done is None:
            return None
        return {
            "speculative_decoding": _speculation(done.stats) if done.stats.num_steps else None,
            "queue_s": done.queue_s,
            "prefill_s": done.prefill_s,
            "decode_s": done.decode_s,
        }

    def first_chunk(self, index: int) -> dict[str, Any] | None:
        """Return the chunk with the role; None for text completions."""
        if not self._is_chat:
            return None
        delta = {"role": "assistant", "content": "", "refusal": None}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._chunk([choice]), **self._chat_prompt_ids()}

    def text_chunk(self, index: int, text: Text, *, with_speculation: bool) -> dict[str, Any] | None:
        """Return the chunk of new text; None if it would be empty."""
        content = "".join(piece.text for piece in text.pieces)
        if not (content or self._wants_logprobs or self._prompt_ids or with_speculation):
            return None
        logprobs = self._logprobs(text.pieces, self._sent_chars[index]) if self._wants_logprobs else None
        self._sent_chars[index] += len(content)
        part: dict[str, Any] = {"delta": {"content": content}} if self._is_chat else {"text": content}
        part |= self._token_ids(index, text.pieces, is_first=not self._has_sent[index])
        self._has_sent[index] = True
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
        """Return the chunk with the finish reason, and the metrics of a single answer."""
        part: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        chunk = self._chunk([{"index": index, **part, "logprobs": None, "finish_reason": done.reason}])
        metrics = self.metrics()
        return {**chunk, "metrics": metrics} if metrics else chunk

    def usage_chunk(self) -> dict[str, Any]:
        """Return the chunk that `include_usage` requests."""
        return {**self._chunk([]), "usage": self.usage()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices}

    def _chat_prompt_ids(self) -> dict[str, Any]:
        """Return the token ids of a chat's prompt, if requested, under the name and at the place of vLLM."""
        return {"prompt_token_ids": self._prompt_ids[0]} if self._is_chat and self._prompt_ids else {}

    def _token_ids(self, index: int, pieces: Sequence[Piece], *, is_first: bool) -> dict[str, Any]:
        """Return the token ids of a choice, if requested; the first ones of a text completion with its prompt's."""
        if not self._prompt_ids:
            return {}
        found: dict[str, Any] = {"token_ids": [piece.token for piece in pieces]}
        if is_first and not self._is_chat:
            found["prompt_token_ids"] = self._prompt_ids[index // self._choices_per_prompt]
        return found

    def _logprobs(self, pieces: Sequence[Piece], begin: int) -> dict[str, Any]:
        """Return log probabilities in the endpoint's format; `begin` is the offset of the first piece in the answer."""
        picked = [piece for piece in pieces if piece.logprobs is not None]
        if self._is_chat:
            return {"content": [self._token_entry(piece) for piece in picked], "refusal": None}
        offsets, place = [], begin
        for piece in pieces:
            if piece.logprobs is not None:
                offsets.append(place)
            place += len(piece.text)
        return {
            "tokens": [completion_name(self._bytes(piece.token)) for piece in picked],
            "token_logprobs": [piece.logprobs.logprob for piece in picked if piece.logprobs],
            "top_logprobs": [self._top_by_name(piece.logprobs) for piece in picked if piece.logprobs],
            "text_offset": offsets,
        }

    def _token_entry(self, piece: Piece) -> dict[str, Any]:
        assert piece.logprobs is not None
        top = [self._entry(token, logprob) for token, logprob in piece.logprobs.top]
        return {**self._entry(piece.token, piece.logprobs.logprob), "top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._bytes(token)
        return {"token": token_text(raw), "logprob": logprob, "bytes": list(raw)}

    def _top_by_name(self, logprobs: TokenLogprobs) -> dict[str, float]:
        names = unique_names([(token, self._bytes(token)) for token, _ in logprobs.top])
        return {name: logprob for name, (_, logprob) in zip(names, logprobs.top, strict=True)}

    def _bytes(self, token: int) -> bytes:
        return token_bytes(self._served.tokenizer, token)


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
