"""Middleware for ASGI applications: FastAPI, Starlette and others."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from .limiter import TIMEOUT_SECONDS, AsyncRateLimiter, Attributes, Verdict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def request_attributes(scope: Scope) -> Attributes:
    """Returns the address of the socket, the method and the path of a request."""
    client = scope.get("client")
    return {
        # A link-local IPv6 address has the name of an interface after the percent sign.
        "client.ip": client[0].partition("%")[0] if client else None,
        "method": scope.get("method", "GET"),
        # The application routes by the decoded path, and the gateway decodes the path again.
        "path": quote(scope["path"]),
    }


class RateLimitMiddleware:
    """Limits HTTP requests and the handshakes of WebSockets.

    ``fail_open`` has no default: while the gateway does not decide, ``True`` serves every request
    and ``False`` answers 503.
    """

    def __init__(
        self,
        app: App,
        *,
        url: str,
        fail_open: bool,
        attributes: Callable[[Scope], Attributes] = request_attributes,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self._app = app
        self._attributes = attributes
        self._limiter = AsyncRateLimiter(url, fail_open=fail_open, api_key=api_key, timeout=timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        verdict = await self._limiter.check(self._attributes(scope))
        if verdict.allowed:
            return await self._app(scope, receive, _sender(send, verdict))
        if scope["type"] == "websocket":
            # The server answers the handshake with status 403.
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-length", b"0"), *_headers(verdict)]
        await send({"type": "http.response.start", "status": verdict.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _headers(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    headers = verdict.headers.items()
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _sender(send: Send, verdict: Verdict) -> Send:
    """Returns a function that sends messages, and adds the headers to the head of the answer."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_headers(verdict)]
        await send(message)

    return send_with_headers
