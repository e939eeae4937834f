"""Chat with a running server."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import httpx

from edgeai.core.errors import EdgeAIError
from edgeai.spec.serve.chat.backend import AnswerEnd, SpeedMeter
from edgeai.spec.serve.client import ChatOptions, Message, read_chunk, streamed
from edgeai.spec.serve.engine.events import Text

_HINTS = {401: "give the key with --api-key or EDGEAI_API_KEY", 429: "try again in a moment"}


class RemoteBackend:
    """Client of a running server; implements `ChatBackend`.

    Args:
        url: Address of the server, with or without /v1.
        options: Sampling options, answer length and system message.
        api_key: Key that the server requires; empty sends none.
    """

    def __init__(self, url: str, options: ChatOptions, *, api_key: str) -> None:
        self._url, self._options = url, options
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=url.rstrip("/").removesuffix("/v1"), headers=headers, timeout=60.0)
        self.name = str(self._get("/v1/models")["data"][0]["id"])

    def answer(self, messages: Sequence[Message], *, speculates: bool) -> Generator[Text | AnswerEnd]:
        """See `ChatBackend`."""
        body = self._options.body(self.name, messages, speculates=speculates)
        meter = SpeedMeter()
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=streamed(body)) as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise _error_of(reply)
                for chunk in filter(None, map(read_chunk, reply.iter_lines())):
                    if chunk.text:
                        meter.add(chunk.text)
                        yield chunk.text
                    if chunk.is_last:
                        yield AnswerEnd(meter.num_tokens, chunk.accept_len or 1.0, meter.tokens_per_s)
        except httpx.HTTPError as error:
            raise EdgeAIError(f"lost the connection to {self._url}: {error}", hint="start the server again") from error

    def close(self) -> None:
        """See `ChatBackend`."""
        self._client.close()

    def _get(self, path: str) -> dict[str, Any]:
        try:
            reply = self._client.get(path)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EdgeAIError(
                f"no server answers at {self._url}: {error}", hint="start a server with `edgeai spec serve`"
            ) from error
        if reply.status_code != 200:
            raise _error_of(reply)
        return dict(reply.json())


def _error_of(reply: httpx.Response) -> EdgeAIError:
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {reply.status_code}"
    return EdgeAIError(f"the server reports an error: {message}", hint=_HINTS.get(reply.status_code, ""))
