"""`edgeai spec chat`: one conversation, with a running server or with an engine in this process."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run
from edgeai.spec.config.chat import ChatConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.serve.build import build_parts
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.jobs import Cancelled, Done, Event, Failed, Text
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.protocol import ChatRequest
from edgeai.spec.serve.http.requests import chat_jobs
from edgeai.spec.serve.http.server import build_engine

Message = Mapping[str, str]


@dataclass(frozen=True)
class Said:
    """New text of one cycle."""

    pieces: tuple[tuple[str, bool], ...]
    """Texts of its tokens, and whether the drafter had foreseen them."""
    num_accepted: int
    """Length of the accepted run."""


@dataclass(frozen=True)
class Ended:
    """The answer is over."""

    num_tokens: int
    accept_len: float
    tokens_per_s: float
    """From the first text to the last."""


class Partner(Protocol):
    """Who answers."""

    name: str

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Said | Ended]:
        """Stream the next turn; closing the iterator stops it."""

    def close(self) -> None:
        """Hang up."""


def find_partner(cfg: ChatConfig, run: Run, *, api_key: str = "") -> Partner:
    """The server that the config names, or the model loaded here.

    Raises:
        EdgeAIError: Nobody answers there, or the model cannot be loaded.
    """
    return Remote(cfg, api_key=api_key) if cfg.url else Local(cfg, run)


class Remote:
    """A running server.

    Args:
        cfg: Its address, and how to sample.
        api_key: What the server asks for.
    """

    def __init__(self, cfg: ChatConfig, *, api_key: str) -> None:
        self._cfg = cfg
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=cfg.url.rstrip("/").removesuffix("/v1"), headers=headers, timeout=60.0)
        self.name = str(self._get("/v1/models")["data"][0]["id"])

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Said | Ended]:
        """See `Partner`."""
        body = {
            **_request(self._cfg, self.name, messages, speculates),
            "stream": True,
            "stream_options": {"include_speculation": True},
        }
        clock = _Clock()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise _refused(reply)
                for line in reply.iter_lines():
                    if line.startswith("data: {"):
                        yield from _read(json.loads(line.removeprefix("data: ")), clock)
        except httpx.HTTPError as error:
            raise EdgeAIError(f"the server at {self._cfg.url} went away: {error}", hint="start it again") from error

    def close(self) -> None:
        """See `Partner`."""
        self._client.close()

    def _get(self, path: str) -> dict[str, Any]:
        try:
            reply = self._client.get(path)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EdgeAIError(
                f"nobody answers at {self._cfg.url}: {error}", hint="start a server with `edgeai spec serve`"
            ) from error
        if reply.status_code != 200:
            raise _refused(reply)
        return dict(reply.json())


class Local:
    """An engine in this process, with one slot.

    Args:
        cfg: What to load, and how to sample.
        run: Names the device.
    """

    def __init__(self, cfg: ChatConfig, run: Run) -> None:
        self._cfg = cfg
        serving = ServeConfig(target=cfg.target, draft=cfg.draft, tree=cfg.tree, context=cfg.context, slots=1)
        parts = build_parts(serving, device=run.info["device"], metrics=run.metrics)
        self._served = parts.served
        self.name = parts.plan.name
        _, self._engine = build_engine(serving, parts)
        self._engine.start()

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Said | Ended]:
        """See `Partner`."""
        body = ChatRequest.model_validate(_request(self._cfg, self.name, messages, speculates))
        try:
            jobs = chat_jobs(self._served, body)
        except ApiError as error:
            raise UsageError(error.message, hint="begin a new conversation with /new") from error
        inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        (handle,) = self._engine.submit(jobs, [inbox.put])
        clock = _Clock()
        try:
            while True:
                event = inbox.get()
                if isinstance(event, Text):
                    clock.tick(len(event.pieces))
                    yield Said(tuple((piece.text, piece.is_draft) for piece in event.pieces), event.num_accepted)
                elif isinstance(event, Done):
                    yield Ended(event.num_tokens, event.stats.accept_len, clock.tokens_per_s)
                    return
                elif isinstance(event, Failed):
                    raise event.error
                elif isinstance(event, Cancelled):
                    return
        finally:
            self._engine.cancel(handle)

    @property
    def engine(self) -> Engine:
        """For those who look inside."""
        return self._engine

    def close(self) -> None:
        """See `Partner`."""
        self._engine.close()


class _Clock:
    """Tokens per second between the first text and the last."""

    def __init__(self) -> None:
        self._first_s = self._last_s = 0.0
        self._num_tokens = 0
        self.total = 0

    def tick(self, num_tokens: int) -> None:
        self._last_s = time.perf_counter()
        if self._first_s:
            self._num_tokens += num_tokens
        else:
            self._first_s = self._last_s
        self.total += num_tokens

    @property
    def tokens_per_s(self) -> float:
        seconds = self._last_s - self._first_s
        return self._num_tokens / seconds if seconds else 0.0


def _request(cfg: ChatConfig, name: str, messages: Sequence[Message], speculates: bool) -> dict[str, Any]:
    sampling = cfg.sampling
    system = [{"role": "system", "content": cfg.system}] if cfg.system else []
    return {
        "model": name,
        "messages": [*system, *map(dict, messages)],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "max_tokens": cfg.max_tokens,
        "speculative": "auto" if speculates else "off",
    }


def _read(chunk: Mapping[str, Any], clock: _Clock) -> Iterator[Said | Ended]:
    if "error" in chunk:
        raise EdgeAIError(f"the server says: {chunk['error']['message']}")
    if told := chunk.get("speculation"):
        clock.tick(len(told["pieces"]))
        yield Said(tuple((piece["text"], piece["is_draft"]) for piece in told["pieces"]), told["num_accepted"])
    if chunk["choices"] and chunk["choices"][0]["finish_reason"]:
        stats = (chunk.get("metrics") or {}).get("speculative_decoding") or {}
        yield Ended(clock.total, float(stats.get("mean_acceptance_length", 1.0)), clock.tokens_per_s)


def _refused(reply: httpx.Response) -> EdgeAIError:
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {reply.status_code}"
    hint = {401: "give the key with --api-key or EDGEAI_API_KEY", 429: "try again in a moment"}
    return EdgeAIError(f"the server says: {message}", hint=hint.get(reply.status_code, ""))
