"""Instructions in user space that a service spends on each request, counted with callgrind: the
difference of two runs, so that the start does not count."""

import re

from scripts.benchmarks.servers import Redis

from . import calls, forward_auth
from .services import FLOOD, LOG, POLICIES, POLICY, Gateway, baseline
from .throughput import ALONE, BASE, FLOODED, OVER_REDIS

CONNECTIONS = 50
ROUNDS = (20, 120)
REQUESTS = CONNECTIONS * (ROUNDS[1] - ROUNDS[0])
ONE_LIMIT = "gateway over Redis, a policy with one limit"
THREE_LIMITS = "gateway over Redis, a policy with three limits"
VALGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=profile")


def measure():
    options = {"core": None, "prefix": VALGRIND, "threads": 1}
    with Redis(core=None) as redis:
        starts = [
            lambda: baseline(ALONE, ALONE, **options),
            lambda: Gateway("gateway with memory://", ALONE, "memory://", **options),
            lambda: Gateway(FLOODED, ALONE, redis.url, FLOOD, **options),
            lambda: baseline(BASE, BASE, redis.url, **options),
            lambda: Gateway(OVER_REDIS, BASE, redis.url, **options),
            lambda: Gateway("gateway over Redis, sliding window", BASE, redis.url, LOG, **options),
            lambda: Gateway(
                "gateway over Redis, a log line each",
                BASE,
                redis.url,
                settings={"LOG_LEVEL": "INFO"},
                **options,
            ),
            lambda: by_policy(ONE_LIMIT, OVER_REDIS, redis, "one-limit.yaml", **options),
            lambda: by_policy(THREE_LIMITS, ONE_LIMIT, redis, "three-limits.yaml", **options),
            *forward_auth.starts(redis.url, **options),
            *calls.starts(redis.url, **options),
        ]
        counts = {}
        for start in starts:
            (service, short), (_, long) = (instructions_of_run(start, each) for each in ROUNDS)
            counts[service.name] = (round((long - short) / REQUESTS), service.base)
    return {
        "connections": CONNECTIONS,
        "requests": REQUESTS,
        "services": {
            name: {"instructions": each, "base": base, "ratio": each / counts[base][0]}
            for name, (each, base) in counts.items()
        },
    }


def by_policy(name, base, redis, file, **options):
    settings = {"POLICIES_FILE": str(POLICIES / file)}
    return Gateway(name, base, redis.url, POLICY, settings, **options)


def instructions_of_run(start, rounds):
    """Returns a service that has ended, and the instructions of its run."""
    with start() as service:
        service.send_rounds(CONNECTIONS, rounds)
        service.stop()
        profile = (service.directory / "profile").read_text()
    return service, int(re.search(r"^totals: (\d+)", profile, re.MULTILINE)[1])
