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
    place, num_used = _place(problems[0], body)
    location = _location(problems[0])
    if num_used == len(location):
        return problems[0], place, []
    members: dict[str | int, list[Mapping[str, Any]]] = {}
    for problem in problems:
        other = _location(problem)
        if other[:num_used] == location[:num_used] and len(other) > num_used:
            members.setdefault(other[num_used], []).append(problem)
    best = max(members.values(), key=lambda found: _depth(_place(found[0], body)[0]))
    if len(_place(best[0], body)[0]) > len(place):
        return _clearest(best, body)
    message, *others = dict.fromkeys(str(found[0]["msg"]) for found in members.values())
    return best[0], place, [message, *(other.removeprefix("Input should be ") for other in others)]


def _depth(place: Sequence[str | int]) -> tuple[int, list[int]]:
    """Return how deep a place lies in the body, and its positions in lists."""
    return len(place), [part for part in place if isinstance(part, int)]


def _location(problem: Mapping[str, Any]) -> tuple[str | int, ...]:
    return tuple(part for part in problem["loc"] if part != "body")


def _place(problem: Mapping[str, Any], body: Any) -> tuple[tuple[str | int, ...], int]:
    """Return the location of a problem in the body, without pydantic's names of union members, and the number of parts
    of pydantic's location up to there.
    """
    place: list[str | int] = []
    value, num_used = body, 0
    parts = _location(problem)
    for number, part in enumerate(parts):
        if isinstance(value, Mapping):
            is_missing = problem["type"] == "missing" and number == len(parts) - 1
            if part in value or is_missing:
                place.append(part)
                value, num_used = value.get(part), number + 1
        elif isinstance(value, list) and isinstance(part, int):
            place.append(part)
            value, num_used = value[part] if part < len(value) else None, number + 1
    return tuple(place), num_used
