"""Submitted jobs on the server's event loop: their events, as a stream or as one response.

Source: OpenAI API reference, streaming by server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.events import Cancelled, Done, Event, Failed, Text
from edgeai.spec.serve.engine.jobs import GenerationJob, Handle
from edgeai.spec.serve.engine.request_queue import EngineClosed, QueueFull
from edgeai.spec.serve.http.errors import ApiError, internal_error
from edgeai.spec.serve.http.reply import Reply
from edgeai.spec.serve.http.request_schema import StreamOptions

RETRY_AFTER_S = 1
_LOG = logging.getLogger("edgeai.serve")
_SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class Submission:
    """Jobs of one HTTP request, and their events on the calling event loop.

    Args:
        engine: The engine.
        jobs: One job per answer.

    Raises:
        ApiError: The queue is full, or the server is shutting down.
    """

    def __init__(self, engine: Engine, jobs: Sequence[GenerationJob]) -> None:
        self._engine = engine
        self._inbox: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listener(index: int) -> Callable[[Event], None]:
            def on_event(event: Event) -> None:
                loop.call_soon_threadsafe(self._inbox.put_nowait, (index, event))

            return on_event

        try:
            self._handles: list[Handle] = engine.submit(jobs, [listener(index) for index in range(len(jobs))])
        except QueueFull as error:
            raise ApiError(
                429,
                f"{error.message}; {error.hint}",
                kind="rate_limit_error",
                code="queue_full",
                headers={"retry-after": str(RETRY_AFTER_S)},
            ) from error
        except EngineClosed as error:
            raise ApiError(
                503, error.message, kind="server_error", code="shutting_down", headers={"connection": "close"}
            ) from error

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield job index and event until all jobs are done.

        Raises:
            ApiError: A job failed, or the server is shutting down.
        """
        num_left = len(self._handles)
        while num_left:
            index, event = await self._inbox.get()
            if isinstance(event, Failed):
                _LOG.error("a request failed", exc_info=event.error)
                raise internal_error()
            if isinstance(event, Cancelled):
                raise ApiError(503, "the server is shutting down", kind="server_error", code="shutting_down")
            num_left -= isinstance(event, Done)
            yield index, event

    def cancel(self) -> None:
        """Cancel all jobs; does nothing to those that are complete."""
        for handle in self._handles:
            self._engine.cancel(handle)


class EventStream(StreamingResponse):
    """Server-sent events of a submission; cancels its jobs when the stream ends for any reason.

    Args:
        submission: The jobs.
        reply: Builds the chunks.
        options: Extra content of the stream.
    """

    def __init__(self, submission: Submission, reply: Reply, options: StreamOptions) -> None:
        super().__init__(_chunks(submission, reply, options), media_type="text/event-stream", headers=_SSE_HEADERS)
        self._submission = submission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._submission.cancel()


async def whole_response(submission: Submission, reply: Reply, request: Request) -> Response:
    """Wait for all answers and return them in one response; cancel the jobs if the client disconnects."""

    async def collect() -> None:
        async for index, event in submission.events():
            if isinstance(event, Text):
                reply.answers[index].pieces += event.pieces
            elif isinstance(event, Done):
                reply.answers[index].done = event

    async def wait_for_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    collecting = asyncio.ensure_future(collect())
    disconnecting = asyncio.ensure_future(wait_for_disconnect())
    try:
        await asyncio.wait([collecting, disconnecting], return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            return Response(status_code=499)
        collecting.result()
        return JSONResponse(reply.whole())
    finally:
        collecting.cancel()
        disconnecting.cancel()
        submission.cancel()


async def _chunks(submission: Submission, reply: Reply, options: StreamOptions) -> AsyncIterator[bytes]:
    usage: dict[str, Any] = {"usage": None} if options.include_usage else {}
    try:
        for index in range(len(reply.answers)):
            if first := reply.first_chunk(index):
                yield _sse({**first, **usage})
        async for index, event in submission.events():
            if isinstance(event, Text):
                chunk = reply.text_chunk(index, event, with_speculation=options.include_speculation)
                if chunk:
                    yield _sse({**chunk, **usage})
            elif isinstance(event, Done):
                reply.answers[index].done = event
                yield _sse({**reply.last_chunk(index, event), **usage})
        if options.include_usage:
            yield _sse(reply.usage_chunk())
    except ApiError as error:
        yield _sse(error.body)
    except Exception as error:  # the status is sent: an event is the only way left to report it
        _LOG.error("a stream failed", exc_info=error)
        yield _sse(internal_error().body)
    yield b"data: [DONE]\n\n"


def _sse(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
