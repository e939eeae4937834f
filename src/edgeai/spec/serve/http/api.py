"""The HTTP side: routes, streams, and clients that leave.

Source: OpenAI API reference, chat completions and completions, streaming by server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from edgeai.spec.serve.engine.engine import Closed, Engine, Handle, QueueFull
from edgeai.spec.serve.engine.jobs import Cancelled, Done, Event, Failed, Job, Text
from edgeai.spec.serve.http.errors import ApiError, from_validation, internal_error
from edgeai.spec.serve.http.limits import Limits
from edgeai.spec.serve.http.metrics import ServerMetrics
from edgeai.spec.serve.http.protocol import ChatRequest, CompletionRequest
from edgeai.spec.serve.http.protocol import Request as Body
from edgeai.spec.serve.http.requests import Served, chat_jobs, check_model, completion_jobs
from edgeai.spec.serve.http.responses import Reply

RETRY_AFTER_S = 1
_LOG = logging.getLogger("edgeai.serve")
_SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class Stream(StreamingResponse):
    """Server-sent events; whatever happens, the requests behind them end with it."""

    def __init__(self, content: AsyncIterator[bytes], asked: Asked) -> None:
        super().__init__(content, media_type="text/event-stream", headers=_SSE_HEADERS)
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._asked.cancel()


class Asked:
    """Submitted jobs and what the engine tells about them, on this side's event loop."""

    def __init__(self, engine: Engine, jobs: Sequence[Job]) -> None:
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
        except Closed as error:
            raise ApiError(
                503, error.message, kind="server_error", code="shutting_down", headers={"connection": "close"}
            ) from error

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """What happens, until all jobs are done.

        Raises:
            ApiError: One of them failed or the server closed.
        """
        left = len(self._handles)
        while left:
            index, event = await self._inbox.get()
            if isinstance(event, Failed):
                _LOG.error("a request failed", exc_info=event.error)
                raise internal_error()
            if isinstance(event, Cancelled):
                raise ApiError(503, "the server is shutting down", kind="server_error", code="shutting_down")
            left -= isinstance(event, Done)
            yield index, event

    def cancel(self) -> None:
        """Nobody waits for the answers any more; harmless if they are done."""
        for handle in self._handles:
            self._engine.cancel(handle)


def build_app(
    engine: Engine,
    served: Served,
    metrics: ServerMetrics,
    *,
    max_body_bytes: int,
    api_key: str = "",
    on_prompt: Callable[[str], None] | None = None,
) -> Limits:
    """The application.

    Args:
        engine: Started by the caller.
        served: The model.
        metrics: Shown at /metrics.
        max_body_bytes: Largest request.
        api_key: What /v1 asks for; empty asks for nothing.
        on_prompt: Told every prompt; None keeps them to nobody.
    """
    app = FastAPI(title="edgeai spec serve", docs_url=None, redoc_url=None)
    created = int(time.time())
    page = resources.files("edgeai.spec.serve.http").joinpath("chat.html").read_text(encoding="utf-8")
    _answer_errors(app, metrics)

    async def ask(body: Body, request: Request, jobs: list[Job], reply: Reply) -> Response:
        if on_prompt:
            on_prompt(body.model_dump_json(exclude_unset=True))
        asked = Asked(engine, jobs)
        if body.stream:
            return Stream(_stream(asked, reply, body), asked)
        return await _whole(asked, reply, request)

    @app.post("/v1/chat/completions", response_model=None, responses=_ERRORS)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        jobs = await run_in_threadpool(chat_jobs, served, body)
        wants = body.num_logprobs is not None
        return await ask(body, request, jobs, Reply(served, is_chat=True, num_choices=len(jobs), wants_logprobs=wants))

    @app.post("/v1/completions", response_model=None, responses=_ERRORS)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        jobs = await run_in_threadpool(completion_jobs, served, body)
        reply = Reply(
            served,
            is_chat=False,
            num_choices=len(jobs),
            num_prompts=len(body.prompts),
            wants_logprobs=body.num_logprobs is not None,
        )
        return await ask(body, request, jobs, reply)

    model = {"id": served.name, "object": "model", "created": created, "owned_by": "edgeai"}
    model["max_model_len"] = served.context

    @app.get("/v1/models", responses=_ERRORS)
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", responses=_ERRORS)
    async def one_model(name: str) -> dict[str, Any]:
        """The model, by its name."""
        check_model(served, name)
        return model

    @app.get("/health", responses={503: {"description": "Draining, or broken"}})
    async def health() -> JSONResponse:
        """Whether new requests are taken."""
        return JSONResponse({"status": engine.status}, 200 if engine.status == "ok" else 503)

    @app.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """For Prometheus."""
        return Response(metrics.render(engine), media_type=metrics.content_type)

    @app.get("/", response_class=HTMLResponse)
    async def chat_page() -> HTMLResponse:
        """A page to chat with the model and watch the speculation."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
        return HTMLResponse(page, headers={"content-security-policy": policy})

    return Limits(app, max_body_bytes=max_body_bytes, api_key=api_key)


_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
    for status, text in {
        400: "Asked wrongly",
        401: "Wrong or missing API key",
        404: "No such model",
        408: "The body did not come",
        413: "The body is too large",
        422: "Not used: invalid requests get 400",
        429: "The queue is full",
        500: "The server failed",
        503: "The server is shutting down",
    }.items()
}


def _answer_errors(app: FastAPI, metrics: ServerMetrics) -> None:
    def answer(error: ApiError) -> JSONResponse:
        metrics.rejected(error.status)
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def known(request: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(from_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        known = {404: "there is nothing at this address", 405: "this address takes another method"}
        message = known.get(error.status_code, "the request could not be read")
        return answer(ApiError(error.status_code, message, headers=error.headers))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return answer(internal_error())


async def _whole(asked: Asked, reply: Reply, request: Request) -> Response:
    """Wait for all answers, unless the client leaves."""

    async def collect() -> None:
        async for index, event in asked.events():
            if isinstance(event, Text):
                reply.answers[index].add(event)
            elif isinstance(event, Done):
                reply.answers[index].done = event

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(collect()), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            return Response(status_code=499)
        tasks[0].result()
        return JSONResponse(reply.whole())
    finally:
        for task in tasks:
            task.cancel()
        asked.cancel()


async def _stream(asked: Asked, reply: Reply, body: Body) -> AsyncIterator[bytes]:
    """The reply as server-sent events."""
    options = body.options
    usage: dict[str, Any] = {"usage": None} if options.include_usage else {}
    try:
        for index in range(len(reply.answers)):
            if first := reply.first_chunk(index):
                yield _event({**first, **usage})
        async for index, event in asked.events():
            if isinstance(event, Text):
                chunk = reply.text_chunk(index, event, with_speculation=options.include_speculation)
                if chunk:
                    yield _event({**chunk, **usage})
            elif isinstance(event, Done):
                reply.answers[index].done = event
                yield _event({**reply.last_chunk(index, event), **usage})
        if options.include_usage:
            yield _event(reply.usage_chunk())
    except ApiError as error:
        yield _event(error.body)
    yield b"data: [DONE]\n\n"


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
