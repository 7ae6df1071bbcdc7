"""A FastAPI application whose requests are limited by the policies of a gateway."""

import os

from fastapi import FastAPI
from ratelimit_gateway_client.asgi import RateLimitMiddleware

app = FastAPI()
app.add_middleware(
    RateLimitMiddleware,
    url=os.environ.get("RATELIMIT_URL", "http://localhost:8000"),
    # While the gateway does not decide: True serves every request, and False answers 503.
    fail_open={"true": True, "false": False}[os.environ["FAIL_OPEN"]],
    api_key=os.environ.get("RATELIMIT_API_KEY"),
)


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "world"}
