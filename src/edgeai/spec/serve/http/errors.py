"""What went wrong with a request, in the shape OpenAI's clients read. Nothing of a prompt, a path or a traceback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        message: One line for the person.
        kind: OpenAI's error type.
        param: The argument it is about.
        code: A short code for programs.
        headers: Sent along.
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
        self.body = error_body(message, kind=kind, param=param, code=code)


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def internal_error() -> ApiError:
    """Something broke here; what it was stays in the log."""
    return ApiError(500, "the server failed to answer this request", kind="server_error", code="internal_error")


def from_validation(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first problem pydantic found, without the input that caused it."""
    problem = problems[0]
    kind = problem["type"]
    place = [str(part) for part in problem["loc"] if part != "body"]
    if kind == "json_invalid":
        return ApiError(400, "the body is no valid JSON", code="invalid_json")
    if kind == "extra_forbidden":
        name = ".".join(place)[:80]
        return ApiError(400, f"unrecognized request argument: {name}", param=name, code="unknown_argument")
    # unions name the member they tried; OpenAI's parameter is the part before
    param = ".".join(part for part in place if part.replace("_", "").isalnum()) or None
    message = str(problem["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{param}: {message}" if param else message, param=param, code="invalid_value")
