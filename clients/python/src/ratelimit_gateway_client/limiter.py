"""Checks of the gateway: one request, one time-out for the whole check, no retry.

A check is never sent again, because the gateway may have counted it.
"""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field

import httpx

#: The values by which policies match and identify a request. ``None`` leaves an attribute out.
Attributes = Mapping[str, str | int | float | bool | None]

TIMEOUT_SECONDS = 0.25

#: The largest number of checks that one process waits for at the same time.
CHECKS_AT_ONCE = 64

#: Headers of the gateway's answer that are for the end user.
HEADERS = (
    "RateLimit-Policy",
    "RateLimit",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """The decision on a request of an end user.

    ``status`` is 200 if the application serves the request, and otherwise the status of the answer:
    429 for a denial, 400 for a malformed path or address, 503 if the gateway does not decide.
    ``headers`` belong into the answer in every case.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def allowed(self) -> bool:
        """True if the application serves the request."""
        return self.status == 200


@dataclass(eq=False)
class _Limiter:
    """The settings of a client of the gateway, and the meaning of the gateway's answers."""

    url: str
    _: KW_ONLY
    fail_open: bool
    api_key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        if not isinstance(self.fail_open, bool):
            raise TypeError(
                "fail_open must be True (serve requests while the gateway does not decide) "
                f"or False (answer 503), not {self.fail_open!r}"
            )
        self._check_url = httpx.URL(self.url.rstrip("/") + "/rate-limit/check")
        self._headers = {} if self.api_key is None else {"X-API-Key": self.api_key}

    def _body(self, attributes: Attributes) -> dict[str, Attributes]:
        given = {name: value for name, value in attributes.items() if value is not None}
        return {"attributes": given}

    def _verdict(self, response: httpx.Response) -> Verdict:
        """Returns the decision in an answer of the gateway.

        Raises ``ValueError`` if the answer is no decision.
        """
        # These faults are in values of the end user, who must not escape the limit by them.
        if response.status_code in (400, 413):
            return Verdict(400)
        # An answer with status 429 can also be about the limit of this application as a caller.
        if response.status_code in (200, 429):
            body = response.json()
            allowed = body.get("allowed") if isinstance(body, dict) else None
            if isinstance(allowed, bool):
                names = (name for name in HEADERS if name in response.headers)
                headers = {name: response.headers[name] for name in names}
                return Verdict(200 if allowed else 429, headers)
        raise ValueError(f"the gateway answered with status {response.status_code}")

    def _verdict_without_gateway(self, error: Exception) -> Verdict:
        logger.warning("the rate limit check failed: %r", error)
        return Verdict(200) if self.fail_open else Verdict(503, {"Retry-After": "1"})


class AsyncRateLimiter(_Limiter):
    """A client of the gateway for code that runs in an event loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._client = httpx.AsyncClient(headers=self._headers, timeout=self.timeout)

    async def check(self, attributes: Attributes) -> Verdict:
        """Decides a request with these attributes."""
        try:
            # The time-outs of httpx are for single steps of an exchange.
            async with asyncio.timeout(self.timeout):
                response = await self._client.post(self._check_url, json=self._body(attributes))
            return self._verdict(response)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            return self._verdict_without_gateway(error)


class RateLimiter(_Limiter):
    """A client of the gateway for code that runs in threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._client = httpx.Client(headers=self._headers, timeout=self.timeout)
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="rate-limit")

    def check(self, attributes: Attributes) -> Verdict:
        """Decides a request with these attributes."""
        # The time-outs of httpx are for single steps of an exchange, so another thread makes the
        # exchange. A check that no thread has begun within the time-out is never sent.
        exchange = self._threads.submit(
            self._client.post, self._check_url, json=self._body(attributes)
        )
        try:
            return self._verdict(exchange.result(self.timeout))
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            exchange.cancel()
            return self._verdict_without_gateway(error)
