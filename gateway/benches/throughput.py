"""Requests per second and their latency under wrk: all services are up, every round has each
service once, and the medians of the rounds count. Then the memory of a gateway."""

import json
import subprocess
import time
from contextlib import ExitStack

from module.benches.throughput import compared
from scripts.benchmarks.servers import LOAD_CORE, ROOT, Failure, Redis, pinned

from .services import Gateway, baseline, original

IDENTIFIERS = 10_000
CONNECTIONS = (50, 500)
ROUNDS = 3
SECONDS = 5
REQUESTS = 1_000_000  # during which the memory must not grow
BASE = "axum and one INCR"


def load(service, connections, seconds, meanwhile=None):
    """Runs wrk, in which every answer has status 200, and calls `meanwhile` late in the run."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10"]
    script = ["-s", ROOT / "gateway/benches/identifiers.lua"]
    url = f"http://127.0.0.1:{service.port}"
    words = [*pinned(LOAD_CORE, wrk), *script, url, "--", service.algorithm, IDENTIFIERS]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as running:
        if meanwhile:
            time.sleep(seconds * 0.8)
            meanwhile()
        printed = running.stdout.read()
    measured = json.loads(printed.splitlines()[-1])
    if measured["status"] or measured["broken"] or not measured["requests"]:
        raise Failure(f"{service.name}: {printed}")
    return {
        "per_second": measured["requests"] / measured["micros"] * 1e6,
        "p50_ms": measured["p50"] / 1e3,
        "p95_ms": measured["p95"] / 1e3,
        "p99_ms": measured["p99"] / 1e3,
        "requests": measured["requests"],
    }


def start_all(stack):
    """Starts all services, over one Redis on the core of the load."""
    url = stack.enter_context(Redis(core=LOAD_CORE)).url
    tb, sw = "token_bucket", "sliding_window"
    starts = [
        lambda: baseline("axum alone"),
        lambda: baseline(BASE, url),
        lambda: Gateway("gateway over Redis, token bucket", tb, url),
        lambda: Gateway("gateway over Redis, sliding window", sw, url),
        lambda: Gateway("gateway over Redis, a log line each", tb, url, LOG_LEVEL="INFO"),
        lambda: Gateway("gateway with memory://", tb, "memory://"),
        lambda: original("FastAPI and Lua, token bucket", tb, url),
        lambda: original("FastAPI and Lua, sliding window", sw, url),
    ]
    return [stack.enter_context(start()) for start in starts]


def measure(rounds=ROUNDS, seconds=SECONDS, requests=REQUESTS):
    with ExitStack() as stack:
        services = start_all(stack)
        measured = {
            str(connections): measure_at(services, connections, rounds, seconds)
            for connections in CONNECTIONS
        }
        memory = measure_memory(services[2], requests)
    return {
        "identifiers": IDENTIFIERS,
        "rounds": rounds,
        "seconds": seconds,
        "connections": measured,
        "memory": memory,
    }


def measure_at(services, connections, rounds, seconds):
    runs = {service.name: [] for service in services}
    for round_number in range(rounds):
        for service in services:
            if round_number == 0:
                load(service, connections, 1)
            run = load(service, connections, seconds)
            service.verify(run.pop("requests"))
            runs[service.name].append(run)
    return compared(runs, BASE)


def measure_memory(gateway, requests):
    """Returns the resident bytes with 500 open connections, before and after more requests."""
    before = resident_under_load(gateway, requests // 2)
    after = resident_under_load(gateway, requests)
    return {"requests": requests, "before_bytes": before, "after_bytes": after}


def resident_under_load(gateway, requests):
    """Returns the most resident bytes in runs with 500 connections."""
    resident = []
    while requests > 0:
        run = load(gateway, CONNECTIONS[-1], 2, lambda: resident.append(gateway.resident_bytes()))
        requests -= run["requests"]
    return max(resident)
