"""ASGI middleware: API key, maximum body size and body time-out.

Source of the interface: ASGI 3.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from edgeai.spec.serve.http.errors import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
BODY_TIMEOUT_S = 30.0
_LOG = logging.getLogger("edgeai.serve")


class Limits:
    """Checks the API key and reads the whole body before it calls the application.

    Args:
        app: Application that receives the accepted requests.
        max_body_bytes: Largest accepted body.
        api_key: Key required below /v1; empty requires none.
        body_timeout_s: Longest time to receive a body.
    """

    def __init__(self, app: App, *, max_body_bytes: int, api_key: str, body_timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app, self._max, self._timeout_s = app, max_body_bytes, body_timeout_s
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            self._check_key(scope["path"], headers.get(b"authorization", b""))
            body = await self._body(headers, receive)
        except ApiError as error:
            await _answer(error, send)
            return
        if body is None:  # the client has disconnected
            return
        pending = [body]

        async def replay() -> MutableMapping[str, Any]:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": False}
            return await receive()

        await self._call(scope, replay, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application; an exception after a complete response is logged and keeps the connection usable.

        Starlette raises again what its handler of unexpected exceptions has answered with status 500. The HTTP server
        would then close the connection, although the response lets the client expect that it stays open.
        """
        is_complete = False

        async def tracked(message: MutableMapping[str, Any]) -> None:
            nonlocal is_complete
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, tracked)
        except Exception as error:
            if not is_complete:
                raise
            _LOG.error("a request failed", exc_info=error)

    def _check_key(self, path: str, given: bytes) -> None:
        if not self._key or not path.startswith("/v1/"):
            return
        scheme, _, key = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.strip(), self._key):
            raise ApiError(
                401,
                "wrong or missing API key: send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    async def _body(self, headers: MutableMapping[bytes, bytes], receive: Receive) -> bytes | None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(receive)
        except TimeoutError:
            raise ApiError(
                408, "the body did not arrive in time", code="timeout", headers={"connection": "close"}
            ) from None

    async def _read(self, receive: Receive) -> bytes | None:
        parts = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts += message.get("body", b"")
            if len(parts) > self._max:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(parts)

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"the body is larger than {self._max} bytes",
            code="body_too_large",
            headers={"connection": "close"},
        )


async def _answer(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
