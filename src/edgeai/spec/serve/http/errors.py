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


def from_validation(problems: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """Return the response to the first problem that pydantic found, without the invalid input.

    Args:
        problems: The problems in pydantic's format.
        body: The parsed body; bytes if it was not declared as JSON.
    """
    if problems[0]["type"] == "json_invalid":
        return ApiError(400, "the body is not valid JSON", code="invalid_json")
    if isinstance(body, bytes) and body:
        return ApiError(
            400,
            "unsupported content type: send the body with the header 'Content-Type: application/json'",
            code="unsupported_content_type",
        )
    problem, place, choices = _clearest(problems, body)
    kind, param = problem["type"], ".".join(map(str, place))[:80] or None
    if kind == "unsupported":
        return ApiError(400, problem["msg"], param=problem["ctx"]["name"], code="unsupported_parameter")
    if kind == "extra_forbidden":
        return ApiError(400, f"unrecognized request argument: {param}", param=param, code="unknown_parameter")
    message = " or ".join(choices) or str(problem["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param, code="invalid_value")


def _clearest(
    problems: Sequence[Mapping[str, Any]], body: Any
) -> tuple[Mapping[str, Any], tuple[str | int, ...], list[str]]:
    """Return the problem to report, its place in the body, and the messages of equally good members of a union.

    pydantic reports the problems of every member of a union. The member that fits best is the one whose first problem
    lies deepest in the body, and last in a list.
    """
    begin = _place(problems[0], body)
    if len(begin) == len(_location(problems[0])):
        return problems[0], begin, []
    first_of: dict[str | int, tuple[Mapping[str, Any], tuple[str | int, ...]]] = {}
    for problem in problems:
        location = _location(problem)
        if location[: len(begin)] == begin and len(location) > len(begin):
            first_of.setdefault(location[len(begin)], (problem, _place(problem, body)))
    problem, place = max(first_of.values(), key=lambda first: (len(first[1]), _indices(first[1])))
    if len(place) > len(begin):
        return problem, place, []
    message, *others = dict.fromkeys(str(first["msg"]) for first, _ in first_of.values())
    return problem, place, [message, *(other.removeprefix("Input should be ") for other in others)]


def _indices(place: Sequence[str | int]) -> list[int]:
    return [part for part in place if isinstance(part, int)]


def _location(problem: Mapping[str, Any]) -> tuple[str | int, ...]:
    return tuple(part for part in problem["loc"] if part != "body")


def _place(problem: Mapping[str, Any], body: Any) -> tuple[str | int, ...]:
    """Return the location of a problem in the body, without pydantic's names of union members."""
    place: list[str | int] = []
    value = body
    parts = _location(problem)
    for number, part in enumerate(parts):
        if isinstance(value, Mapping):
            is_missing = problem["type"] == "missing" and number == len(parts) - 1
            if part in value or is_missing:
                place.append(part)
                value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            place.append(part)
            value = value[part] if part < len(value) else None
    return tuple(place)
