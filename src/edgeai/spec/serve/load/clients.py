"""Concurrent clients of the load test, and what each observes of its answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from edgeai.core.errors import EdgeAIError
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.serve.client import ChatOptions, read_chunk, streamed


@dataclass(frozen=True)
class ObservedAnswer:
    """One streamed answer as its client observes it."""

    prompt: int
    """Index of the prompt."""
    ids: tuple[int, ...]
    first_s: float
    """Time from the request to the first text."""
    gaps_s: tuple[float, ...]
    """Inter-token latency of each token after the first text: time since the previous text, divided by the number of
    tokens that arrived together."""
    accept_len: float


@dataclass(frozen=True)
class LoadClients:
    """Clients that send greedy requests to one server.

    Args:
        url: Address of the server.
        model: Name of the served model.
        prompts: Prompts, used in turn; of each the first user turn.
    """

    url: str
    model: str
    prompts: Sequence[Prompt]

    def run(self, num_clients: int, num_requests: int, *, max_tokens: int, speculates: bool) -> list[ObservedAnswer]:
        """Send requests until all are answered; each client sends its next one as soon as it has an answer.

        Args:
            num_clients: Clients at the same time.
            num_requests: Requests of all clients together.
            max_tokens: Most tokens per answer.
            speculates: False decodes plainly.

        Raises:
            EdgeAIError: The server reports an error.
        """
        return asyncio.run(self._run(num_clients, num_requests, max_tokens, speculates))

    async def _run(
        self, num_clients: int, num_requests: int, max_tokens: int, speculates: bool
    ) -> list[ObservedAnswer]:
        todo = iter(range(num_requests))
        limits = httpx.Limits(max_connections=num_clients)
        async with httpx.AsyncClient(base_url=self.url, timeout=600.0, limits=limits) as client:

            async def work() -> list[ObservedAnswer]:
                return [await self._ask(client, n % len(self.prompts), max_tokens, speculates) for n in todo]

            parts = await asyncio.gather(*(work() for _ in range(num_clients)))
        return [answer for part in parts for answer in part]

    async def _ask(self, client: httpx.AsyncClient, prompt: int, max_tokens: int, speculates: bool) -> ObservedAnswer:
        messages = self.prompts[prompt].messages([])
        body = ChatOptions(SamplingConfig(), max_tokens).body(self.model, messages, speculates=speculates)
        ids: list[int] = []
        gaps_s: list[float] = []
        accept_len = 1.0
        begin_s = last_s = time.perf_counter()
        first_s: float | None = None
        async with client.stream("POST", "/v1/chat/completions", json=streamed(body)) as reply:
            if reply.status_code != 200:
                raise EdgeAIError(f"the server answered with status {reply.status_code}")
            async for line in reply.aiter_lines():
                chunk = read_chunk(line)
                if chunk is None:
                    continue
                if chunk.text:
                    now_s = time.perf_counter()
                    tokens = [piece.token for piece in chunk.text.pieces]
                    if first_s is None:
                        first_s = now_s - begin_s
                    else:
                        gaps_s += [(now_s - last_s) / len(tokens)] * len(tokens)
                    ids += tokens
                    last_s = now_s
                accept_len = chunk.accept_len or accept_len
        return ObservedAnswer(prompt, tuple(ids), first_s or 0.0, tuple(gaps_s), accept_len)
