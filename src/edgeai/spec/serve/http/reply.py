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

from edgeai.spec.serve.answers.answer_parser import AnswerParser
from edgeai.spec.serve.engine.events import Done, Piece, SpeculationStats, Text, TokenLogprobs
from edgeai.spec.serve.http.chat_parts import delta_of, message_of
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.serve.http.request_schema import StreamOptions
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
        parsers: Parsers of the answers, one for each; without them all text is content.
        reports_calls: False gives calls the finish reason "stop", as OpenAI and vLLM do if the request names the
            function to call.
        options: Extra content of a stream.
    """

    end_mark = b"data: [DONE]\n\n"
    """Last bytes of a stream."""

    def __init__(
        self,
        served: ServedModel,
        *,
        is_chat: bool,
        num_choices: int,
        num_prompts: int = 1,
        wants_logprobs: bool = False,
        prompt_ids: Sequence[Sequence[int]] = (),
        parsers: Sequence[AnswerParser] = (),
        reports_calls: bool = True,
        options: StreamOptions | None = None,
    ) -> None:
        self._parsers, self._reports_calls, self._options = parsers, reports_calls, options or StreamOptions()
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

    def add(self, index: int, event: Text | Done) -> None:
        """Add an event of an answer to the whole response."""
        if isinstance(event, Text):
            self.answers[index].pieces += event.pieces
        else:
            self.answers[index].done = event

    def whole(self) -> dict[str, Any]:
        """Return the whole response; all answers must be done."""
        choices = []
        for index, answer in enumerate(self.answers):
            assert answer.done is not None, "the answer is done"
            logprobs = self._logprobs(answer.pieces, 0) if self._wants_logprobs else None
            content: dict[str, Any] = {"text": answer.text}
            if self._is_chat:
                content = {"message": self._message(index)}
            content |= self._token_ids(index, answer.pieces, is_first=True)
            choices.append({"index": index, **content, "logprobs": logprobs, "finish_reason": self._reason(index)})
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
            **self._completion_details(),
        }

    def _completion_details(self) -> dict[str, Any]:
        """Return the number of reasoning tokens of a chat with reasoning."""
        num_tokens = sum(parser.num_reasoning_tokens for parser in self._parsers)
        return {"completion_tokens_details": {"reasoning_tokens": num_tokens}} if num_tokens else {}

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

    def begin(self) -> list[dict[str, Any]]:
        """Return the first chunks of a stream: the roles of a chat."""
        chunks = [self._first_chunk(index) for index in range(len(self.answers))] if self._is_chat else []
        return self._with_usage(chunks)

    def on_text(self, index: int, text: Text) -> list[dict[str, Any]]:
        """Return the chunks of new text."""
        chunk = self._text_chunk(index, text)
        return self._with_usage([chunk] if chunk else [])

    def on_done(self, index: int, done: Done) -> list[dict[str, Any]]:
        """Return the last chunks of an answer."""
        self.answers[index].done = done
        rest = delta_of(self._parsers[index].finish()) if self._parsers else {}
        chunks = (
            [self._chunk([{"index": index, "delta": rest, "logprobs": None, "finish_reason": None}])] if rest else []
        )
        return self._with_usage([*chunks, self._last_chunk(index, done)])

    def end(self) -> list[dict[str, Any]]:
        """Return the last chunks of a stream: the usage, if requested."""
        return [{**self._chunk([]), "usage": self.usage()}] if self._options.include_usage else []

    def on_error(self, error: ApiError) -> list[dict[str, Any]]:
        """Return what a stream ends with after an error."""
        return [error.body]

    def _with_usage(self, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return chunks with the empty usage that OpenAI sends if the usage comes at the end."""
        return [{**chunk, "usage": None} for chunk in chunks] if self._options.include_usage else chunks

    def _first_chunk(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._chunk([choice]), **self._chat_prompt_ids()}

    def _text_chunk(self, index: int, text: Text) -> dict[str, Any] | None:
        """Return the chunk of new text; None if it would be empty."""
        content = "".join(piece.text for piece in text.pieces)
        delta = delta_of(self._parsers[index].feed(text.pieces)) if self._parsers else {"content": content}
        with_speculation = self._options.include_speculation
        has_text = bool(delta if self._parsers else content)
        if not (has_text or self._wants_logprobs or self._prompt_ids or with_speculation):
            return None
        logprobs = self._logprobs(text.pieces, self._sent_chars[index]) if self._wants_logprobs else None
        self._sent_chars[index] += len(content)
        part: dict[str, Any] = {"delta": delta} if self._is_chat else {"text": content}
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

    def _last_chunk(self, index: int, done: Done) -> dict[str, Any]:
        """Return the chunk with the finish reason, and the metrics of a single answer."""
        part: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        chunk = self._chunk([{"index": index, **part, "logprobs": None, "finish_reason": self._reason(index)}])
        metrics = self.metrics()
        return {**chunk, "metrics": metrics} if metrics else chunk

    def _message(self, index: int) -> dict[str, Any]:
        """Return the message of a complete answer."""
        if not self._parsers:
            return {"role": "assistant", "content": self.answers[index].text, "refusal": None}
        parser = self._parsers[index]
        parser.feed(self.answers[index].pieces)
        parser.finish()
        return message_of(parser.answer)

    def _reason(self, index: int) -> str:
        """Return the finish reason of a complete answer."""
        done = self.answers[index].done
        assert done is not None, "the answer is done"
        has_calls = self._reports_calls and bool(self._parsers) and self._parsers[index].answer.has_calls
        return "tool_calls" if has_calls and done.reason == "stop" else done.reason

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
        if self._is_chat:
            return {"content": [self._token_entry(piece) for piece in pieces], "refusal": None}
        offsets, place = [], begin
        for piece in pieces:
            offsets.append(place)
            place += len(piece.text)
        return {
            "tokens": [completion_name(self._bytes(piece.token)) for piece in pieces],
            "token_logprobs": [piece.logprobs and piece.logprobs.logprob for piece in pieces],
            "top_logprobs": [piece.logprobs and self._top_by_name(piece.logprobs) for piece in pieces],
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
