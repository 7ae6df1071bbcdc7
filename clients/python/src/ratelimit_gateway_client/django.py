"""Middleware for Django, configured by the setting ``RATE_LIMIT``."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from .limiter import AsyncRateLimiter, Attributes, RateLimiter, Verdict

Middleware = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


def request_attributes(request: HttpRequest) -> Attributes:
    """Returns the address of the socket, the method and the path of a request."""
    # A link-local IPv6 address has the name of an interface after the percent sign.
    address = request.META.get("REMOTE_ADDR", "").partition("%")[0]
    return {
        "client.ip": address or None,
        "method": request.method,
        # Django has decoded the path, and the gateway decodes it again.
        "path": quote(request.path),
    }


@sync_and_async_middleware
def rate_limit(get_response: Callable[[HttpRequest], Any]) -> Middleware:
    """Limits requests. ``RATE_LIMIT`` must contain ``url`` and ``fail_open``."""
    options = {"attributes": request_attributes, **settings.RATE_LIMIT}
    attributes = options.pop("attributes")
    if iscoroutinefunction(get_response):
        async_limiter = AsyncRateLimiter(**options)

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            verdict = await async_limiter.check(attributes(request))
            response = await get_response(request) if verdict.allowed else HttpResponse()
            return _answer(response, verdict)

        return async_middleware

    limiter = RateLimiter(**options)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        verdict = limiter.check(attributes(request))
        response = get_response(request) if verdict.allowed else HttpResponse()
        return _answer(response, verdict)

    return middleware


def _answer(response: HttpResponseBase, verdict: Verdict) -> HttpResponseBase:
    if not verdict.allowed:
        response.status_code = verdict.status
    for name, value in verdict.headers.items():
        response.headers[name] = value
    return response
