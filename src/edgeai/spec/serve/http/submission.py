"""Submitted jobs on the server's event loop: their events, as a stream or as one response.

Source: OpenAI API reference, streaming by server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from edgeai.spec.constraints.constraint import ConstraintError
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.events import Cancelled, Done, Event, Failed, Text
from edgeai.spec.serve.engine.jobs import GenerationJob, Handle
from edgeai.spec.serve.engine.request_queue import EngineClosed, QueueFull
from edgeai.spec.serve.http.errors import ApiError, internal_error

RETRY_AFTER_S = 1
_LOG = logging.getLogger("edgeai.serve")
_SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class StreamedReply(Protocol):
    """Builds the documents of one response, whole or streamed."""

    end_mark: bytes
    """Last bytes of a stream."""

    def begin(self) -> list[dict[str, Any]]:
        """Return the first documents of a stream."""

    def on_text(self, index: int, text: Text) -> list[dict[str, Any]]:
        """Return the documents of new text of an answer."""

    def on_done(self, index: int, done: Done) -> list[dict[str, Any]]:
        """Return the documents at the end of an answer."""

    def end(self) -> list[dict[str, Any]]:
        """Return the last documents of a stream."""

    def on_error(self, error: ApiError) -> list[dict[str, Any]]:
        """Return the last documents of a stream that ends with an error."""

    def add(self, index: int, event: Text | Done) -> None:
        """Add an event of an answer to the whole response."""

    def whole(self) -> dict[str, Any]:
        """Return the whole response; all answers must be done."""


Inbox = asyncio.Queue[tuple[int, Event]]
"""Events of one HTTP request, with the index of their job."""


class Mailbox:
    """Events on their way from the engine's thread to event loops.

    They are delivered once a cycle: every wake-up of a loop takes the interpreter from the engine's thread.
    """

    def __init__(self) -> None:
        self._sent: dict[asyncio.AbstractEventLoop, list[tuple[Inbox, int, Event]]] = {}

    def send(self, loop: asyncio.AbstractEventLoop, inbox: Inbox, index: int, event: Event) -> None:
        """Add an event; on the engine's thread."""
        self._sent.setdefault(loop, []).append((inbox, index, event))

    def deliver(self) -> None:
        """Deliver all events; on the engine's thread."""
        sent, self._sent = self._sent, {}
        for loop, events in sent.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for these
                loop.call_soon_threadsafe(_put_all, events)


def _put_all(events: Sequence[tuple[Inbox, int, Event]]) -> None:
    for inbox, index, event in events:
        inbox.put_nowait((index, event))


class Submission:
    """Jobs of one HTTP request, and their events on the calling event loop.

    Args:
        engine: The engine.
        jobs: One job per answer.
        mailbox: Brings the events from the engine's thread.
        constraint_param: Name of the field that constrains the answers, for errors.

    Raises:
        ApiError: The queue is full, or the server is shutting down.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[GenerationJob],
        mailbox: Mailbox,
        *,
        constraint_param: str | None = None,
    ) -> None:
        self._engine, self._constraint_param = engine, constraint_param
        self._inbox: Inbox = asyncio.Queue()
        loop = asyncio.get_running_loop()
        listeners = [partial(mailbox.send, loop, self._inbox, index) for index in range(len(jobs))]
        try:
            self._handles: list[Handle] = engine.submit(jobs, listeners)
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
            if isinstance(event, Failed) and isinstance(event.error, ConstraintError):
                param = self._constraint_param
                message = f"{param}: the grammar cannot be followed: {event.error.message}"
                raise ApiError(400, message, param=param, code="invalid_value")
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
        reply: Builds the documents.
    """

    def __init__(self, submission: Submission, reply: StreamedReply) -> None:
        super().__init__(_chunks(submission, reply), media_type="text/event-stream", headers=_SSE_HEADERS)
        self._submission = submission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._submission.cancel()


async def whole_response(submission: Submission, reply: StreamedReply, request: Request) -> Response:
    """Wait for all answers and return them in one response; cancel the jobs if the client disconnects."""

    async def collect() -> None:
        async for index, event in submission.events():
            if isinstance(event, Text | Done):
                reply.add(index, event)

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


async def _chunks(submission: Submission, reply: StreamedReply) -> AsyncIterator[bytes]:
    try:
        for document in reply.begin():
            yield _sse(document)
        async for index, event in submission.events():
            documents: list[dict[str, Any]] = []
            if isinstance(event, Text):
                documents = reply.on_text(index, event)
            elif isinstance(event, Done):
                documents = reply.on_done(index, event)
            for document in documents:
                yield _sse(document)
        for document in reply.end():
            yield _sse(document)
    except ApiError as error:
        for document in reply.on_error(error):
            yield _sse(document)
    except Exception as error:  # the status is sent: an event is the only way left to report it
        _LOG.error("a stream failed", exc_info=error)
        for document in reply.on_error(internal_error()):
            yield _sse(document)
    if reply.end_mark:
        yield reply.end_mark


def _sse(document: dict[str, Any]) -> bytes:
    """Return a server-sent event; documents with a type, those of /v1/responses, name it as well."""
    name = f"event: {document['type']}\n" if "type" in document else ""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return f"{name}data: {data}\n\n".encode()
