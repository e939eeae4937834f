"""Routes of the server: chat completions, completions, responses, models, health, metrics and the chat page.

Source: OpenAI API reference, chat completions, completions and responses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from edgeai.spec.serve.answers.answer_parser import AnswerParser
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.serve.http.answer_parsers import answer_parsers
from edgeai.spec.serve.http.errors import ERROR_RESPONSES, ApiError, from_validation, internal_error
from edgeai.spec.serve.http.jobs.request_jobs import chat_jobs, completion_jobs
from edgeai.spec.serve.http.jobs.served_model import ServedModel, check_model
from edgeai.spec.serve.http.limits import App, Limits
from edgeai.spec.serve.http.metrics import ServerMetrics
from edgeai.spec.serve.http.reply import Reply
from edgeai.spec.serve.http.request_schema import ChatRequest, CompletionRequest, GenerationRequest
from edgeai.spec.serve.http.responses.response_reply import ResponsesReply
from edgeai.spec.serve.http.responses.response_schema import ResponsesRequest
from edgeai.spec.serve.http.submission import EventStream, Mailbox, StreamedReply, Submission, whole_response

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_HTTP_ERRORS = {
    404: ("no such endpoint", "unknown_url"),
    405: ("method not allowed at this endpoint", "method_not_allowed"),
}


def build_app(
    engine: Engine,
    served: ServedModel,
    metrics: ServerMetrics,
    *,
    max_body_bytes: int,
    api_key: str = "",
    cors_origins: Sequence[str] = (),
    on_prompt: Callable[[str], None] | None = None,
) -> App:
    """Build the ASGI application.

    Args:
        engine: Engine that the caller starts and closes.
        served: The served model.
        metrics: Statistics shown at /metrics.
        max_body_bytes: Largest accepted request body.
        api_key: Key required below /v1; empty requires none.
        cors_origins: Origins whose web pages may call the API, "*" for all; none by default.
        on_prompt: Called with the JSON of each request; None logs no prompts.
    """
    app = FastAPI(title="edgeai spec serve", docs_url=None, redoc_url=None)
    _add_error_handlers(app, metrics)
    _add_generation(app, engine, served, on_prompt)
    _add_models(app, served)
    _add_operations(app, engine, metrics)
    limited = Limits(app, max_body_bytes=max_body_bytes, api_key=api_key)
    if not cors_origins:
        return limited
    return CORSMiddleware(  # answers preflight requests itself: browsers send them without the key
        limited,
        allow_origins=cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["retry-after"],
    )


def _add_generation(app: FastAPI, engine: Engine, served: ServedModel, on_prompt: Callable[[str], None] | None) -> None:
    mailbox = Mailbox()
    engine.after_step = mailbox.deliver

    async def answer(
        body: GenerationRequest | ResponsesRequest, request: Request, jobs: list[GenerationJob], reply: StreamedReply
    ) -> Response:
        if on_prompt:
            on_prompt(body.model_dump_json(exclude_unset=True))
        submission = Submission(engine, jobs, mailbox, constraint_param=body.constraint_param)
        if body.stream:
            return EventStream(submission, reply)
        return await whole_response(submission, reply, request)

    @app.post("/v1/chat/completions", response_model=None, responses=ERROR_RESPONSES)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        jobs = await run_in_threadpool(chat_jobs, served, body)
        reply = Reply(
            served,
            is_chat=True,
            num_choices=len(jobs),
            wants_logprobs=body.num_logprobs is not None,
            prompt_ids=[jobs[0].prompt_ids] if body.return_token_ids else (),
            parsers=answer_parsers(served, body, jobs),
            reports_calls=not body.names_function,
            options=body.options,
        )
        return await answer(body, request, jobs, reply)

    @app.post("/v1/completions", response_model=None, responses=ERROR_RESPONSES)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        jobs = await run_in_threadpool(completion_jobs, served, body)
        reply = Reply(
            served,
            is_chat=False,
            num_choices=len(jobs),
            num_prompts=len(body.prompts),
            wants_logprobs=body.num_logprobs is not None,
            prompt_ids=[job.prompt_ids for job in jobs[:: body.n or 1]] if body.return_token_ids else (),
            options=body.options,
        )
        return await answer(body, request, jobs, reply)

    @app.post("/v1/responses", response_model=None, responses=ERROR_RESPONSES)
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        """Answer a conversation in the format of the Responses API; nothing is stored."""
        jobs = await run_in_threadpool(
            chat_jobs, served, body.chat, param="input", constraint_param=body.constraint_param
        )
        parsers = answer_parsers(served, body.chat, jobs)
        return await answer(body, request, jobs, ResponsesReply(body, parsers[0] if parsers else AnswerParser()))


def _add_models(app: FastAPI, served: ServedModel) -> None:
    model = {"id": served.name, "object": "model", "created": int(time.time()), "owned_by": "edgeai"}
    model["max_model_len"] = served.context

    @app.get("/v1/models", responses=ERROR_RESPONSES)
    async def models() -> dict[str, Any]:
        """List the served model."""
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", responses=ERROR_RESPONSES)
    async def one_model(name: str) -> dict[str, Any]:
        """Return the served model by name."""
        check_model(served, name)
        return model


def _add_operations(app: FastAPI, engine: Engine, metrics: ServerMetrics) -> None:
    page = resources.files("edgeai.spec.serve.http").joinpath("chat.html").read_text(encoding="utf-8")

    @app.get("/health", responses={503: {"description": "Draining or broken"}})
    async def health() -> JSONResponse:
        """Report whether new requests are accepted."""
        return JSONResponse({"status": engine.status}, 200 if engine.status == "ok" else 503)

    @app.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Return Prometheus metrics."""
        content = metrics.render(num_active=engine.num_active, num_waiting=engine.num_waiting)
        return Response(content, media_type=metrics.content_type)

    @app.get("/", response_class=HTMLResponse)
    async def chat_page() -> HTMLResponse:
        """Return a chat page that highlights accepted draft tokens."""
        return HTMLResponse(page, headers={"content-security-policy": _PAGE_POLICY})


def _add_error_handlers(app: FastAPI, metrics: ServerMetrics) -> None:
    def respond(error: ApiError) -> JSONResponse:
        metrics.rejected(error.status)
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(from_validation(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message, code = _HTTP_ERRORS.get(error.status_code, ("the request could not be read", "invalid_request"))
        return respond(ApiError(error.status_code, message, code=code, headers=error.headers))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return respond(internal_error())
