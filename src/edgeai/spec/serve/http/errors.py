"""Errors of the HTTP interface in OpenAI's format. They never contain prompts, paths or tracebacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
    for status, text in {
        400: "Invalid request",
        401: "Wrong or missing API key",
        404: "No such model",
        408: "The body did not arrive in time",
        413: "The body is too large",
        422: "Not used: invalid requests get 400",
        429: "The queue is full",
        500: "Internal error",
        503: "The server is shutting down",
    }.items()
}
"""OpenAPI description of the error responses below /v1."""


class ApiError(Exception):
    """Error response.

    Args:
        status: HTTP status code.
        message: One-line message.
        kind: OpenAI's error type.
        param: Name of the invalid argument, if any.
        code: Machine-readable error code.
        headers: Additional response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def internal_error() -> ApiError:
    """Return the response to an internal error; details are in the log only."""
    return ApiError(500, "the server failed to answer this request", kind="server_error", code="internal_error")


def from_validation(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """Return the response to the first problem that pydantic found, without the invalid input."""
    problem = problems[0]
    kind = problem["type"]
    place = [str(part) for part in problem["loc"] if part != "body"]
    if kind == "json_invalid":
        return ApiError(400, "the body is not valid JSON", code="invalid_json")
    if kind == "extra_forbidden":
        name = ".".join(place)[:80]
        return ApiError(400, f"unrecognized request argument: {name}", param=name, code="unknown_argument")
    # pydantic appends the tried member of a union; OpenAI's parameter name ends before it
    param = ".".join(part for part in place if part.replace("_", "").isalnum()) or None
    message = str(problem["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param, code="invalid_value")
