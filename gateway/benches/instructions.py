"""Instructions in user space that a service spends on each request, counted with callgrind: the
difference of two runs, so that the start does not count. Each round sends one request over each of
50 connections before it reads the answers, so that a service finds the same work in every run."""

import re
import socket
from contextlib import contextmanager

from scripts.benchmarks.servers import Failure, Redis

from .services import FLOOD, LOG, POLICIES, POLICY, Gateway, baseline
from .throughput import ALONE, BASE, FLOODED, OVER_REDIS

CONNECTIONS = 50
ROUNDS = (20, 120)
REQUESTS = CONNECTIONS * (ROUNDS[1] - ROUNDS[0])
ONE_LIMIT = "gateway over Redis, a policy with one limit"
THREE_LIMITS = "gateway over Redis, a policy with three limits"
VALGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=profile")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.IGNORECASE | re.DOTALL)


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
        with clients(service) as drive:
            drive(rounds)
        service.stop()
        profile = (service.directory / "profile").read_text()
    return service, int(re.search(r"^totals: (\d+)", profile, re.MULTILINE)[1])


@contextmanager
def clients(service):
    """Opens the connections, and returns a function that sends rounds of requests over them."""
    address = ("127.0.0.1", service.port)
    connections = [socket.create_connection(address, timeout=60) for _ in range(CONNECTIONS)]

    def drive(rounds):
        for number in range(rounds):
            for index, connection in enumerate(connections):
                connection.sendall(request(service, number * CONNECTIONS + index))
            for connection in connections:
                read_answer(service, connection)

    try:
        yield drive
    finally:
        for connection in connections:
            connection.close()


def request(service, number):
    body = service.body.replace("%d", str(number % 1_000)).encode()
    head = (
        f"POST {service.path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_answer(service, connection):
    answer = b""
    while True:
        answer += connection.recv(65_536)
        head = LENGTH.search(answer)
        if head and len(answer) >= head.end() + int(head[1]):
            break
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"{service.name}: {answer.decode(errors='replace')}")
