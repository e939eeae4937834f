"""Client side of the HTTP interface: request bodies and chunks of streamed chat completions. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.core.errors import EdgeAIError
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.serve.engine.events import Piece, Text

Message = Mapping[str, str]
"""One turn of a conversation: role and content."""


@dataclass(frozen=True)
class ChatOptions:
    """Options that all requests of a conversation share."""

    sampling: SamplingConfig
    max_tokens: int
    """Most tokens per answer."""
    system: str = ""
    """System message; empty sends none."""

    def body(self, model: str, messages: Sequence[Message], *, speculates: bool) -> dict[str, Any]:
        """Return the body of a chat completion request that is not streamed.

        Args:
            model: Name of the served model.
            messages: The conversation, ending with the user's message.
            speculates: False decodes plainly.
        """
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {
            "model": model,
            "messages": [*system, *map(dict, messages)],
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": self.sampling.top_k,
            "min_p": self.sampling.min_p,
            "seed": self.sampling.seed,
            "max_tokens": self.max_tokens,
            "speculative": "auto" if speculates else "off",
        }


@dataclass(frozen=True)
class StreamChunk:
    """One chunk of a streamed chat completion."""

    text: Text | None
    """New text; None if the chunk has none."""
    is_last: bool
    accept_len: float | None
    """Mean tokens per step of the whole answer; only in the last chunk of an answer with speculation."""


def streamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of the same request as a stream that marks accepted draft tokens."""
    return {**body, "stream": True, "stream_options": {"include_speculation": True}}


def read_chunk(line: str) -> StreamChunk | None:
    """Parse one line of an event stream; None if it holds no chunk.

    Raises:
        EdgeAIError: The chunk is an error of the server.
    """
    if not line.startswith("data: {"):
        return None
    chunk = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise EdgeAIError(f"the server reports an error: {chunk['error']['message']}")
    text = None
    if speculation := chunk.get("speculation"):
        pieces = tuple(Piece(piece["token"], piece["text"], piece["is_draft"], None) for piece in speculation["pieces"])
        text = Text(pieces, speculation["num_accepted"], speculation["num_drafted"])
    stats = (chunk.get("metrics") or {}).get("speculative_decoding")
    return StreamChunk(
        text=text,
        is_last=bool(chunk["choices"] and chunk["choices"][0]["finish_reason"]),
        accept_len=float(stats["mean_acceptance_length"]) if stats else None,
    )
