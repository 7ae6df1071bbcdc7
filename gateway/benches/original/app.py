"""The design that the gateway replaces, as small as possible: FastAPI, redis-py and a script for
each algorithm. SCRIPTS is the directory of the scripts, REDIS_URL the server."""

import os
from enum import StrEnum
from pathlib import Path

import redis.asyncio
from fastapi import FastAPI
from pydantic import BaseModel, Field


class Algorithm(StrEnum):
    TOKEN_BUCKET = "token_bucket"
    SLIDING_WINDOW = "sliding_window"


class Check(BaseModel):
    identifier: str = Field(min_length=1, max_length=256)
    algorithm: Algorithm = Algorithm.TOKEN_BUCKET
    limit: int = Field(100, ge=1)
    window_seconds: int = Field(60, ge=1)


class Answer(BaseModel):
    allowed: bool
    remaining: int
    reset_in_seconds: float
    retry_after: float | None


# Requests wait for one of the connections; without the wait they would be refused.
pool = redis.asyncio.BlockingConnectionPool.from_url(
    os.environ["REDIS_URL"], max_connections=50, timeout=None
)
client = redis.asyncio.Redis(connection_pool=pool)
directory = Path(os.environ["SCRIPTS"])
scripts = {
    Algorithm.TOKEN_BUCKET: client.register_script((directory / "token_bucket.lua").read_text()),
    Algorithm.SLIDING_WINDOW: client.register_script(
        (directory / "sliding_window_log.lua").read_text()
    ),
}
app = FastAPI()


@app.post("/rate-limit/check")
async def check(check: Check) -> Answer:
    key = f"{check.algorithm}:{check.identifier}"
    granted, _, remaining, retry, reset = await scripts[check.algorithm](
        keys=[key], args=[check.limit, check.window_seconds, 1]
    )
    return Answer(
        allowed=granted > 0,
        remaining=remaining,
        reset_in_seconds=reset / 1_000,
        retry_after=None if granted else retry / 1_000,
    )
