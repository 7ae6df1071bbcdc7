"""Processor time, rate and latency of requests under wrk, each service beside the least that such a
service can be. Then a flood of denials, and the memory of a gateway."""

import subprocess
from contextlib import ExitStack, contextmanager
from functools import partial

from scripts.benchmarks.paired import compared, rounds_of, spread
from scripts.benchmarks.servers import LOAD_CORE, THROTTLECRAB, Redis

from .load import compare_time, load, measured, words_of_wrk
from .services import (
    BUCKET,
    FLOOD,
    IDENTIFIERS,
    LOG,
    Gateway,
    Throttlecrab,
    baseline,
    original,
)

# Connections: seconds of a run. With more connections, opening them is a greater part of a run.
SECONDS = {50: 1, 500: 2}
ROUNDS = 5
# Runs of a service beside its base, for the ratio of their processor time.
PAIRS = 11
THREADS = (2, 4)
REQUESTS = 1_000_000  # during which the memory must not grow
ALONE = "axum alone"
BASE = "axum and one INCR"
OVER_REDIS = "gateway over Redis, token bucket"
FLOODED = "gateway over Redis, a flood of denials"
# Connections of the clients beside a flood.
OTHERS = 4


def one_thread_each(url):
    """Returns the starts of services with one worker thread each, on the core of the servers."""
    name = "gateway over Redis"
    with_log = {"LOG_LEVEL": "INFO"}
    return [
        lambda: baseline(ALONE, ALONE),
        lambda: Gateway("gateway with memory://", ALONE, "memory://"),
        *others_in_memory(),
        lambda: Gateway(FLOODED, ALONE, url, FLOOD),
        lambda: baseline(BASE, BASE, url),
        lambda: Gateway(OVER_REDIS, BASE, url),
        lambda: Gateway(f"{name}, sliding window", BASE, url, LOG),
        lambda: Gateway(f"{name}, a log line each", BASE, url, settings=with_log),
        lambda: original("FastAPI and Lua, token bucket", BASE, BUCKET, url),
        lambda: original("FastAPI and Lua, sliding window", BASE, LOG, url),
    ]


def others_in_memory():
    """Returns the start of throttlecrab, where it could be built."""
    if not THROTTLECRAB.exists():
        return []
    return [lambda: Throttlecrab("throttlecrab in memory", ALONE)]


def several_threads_each(url):
    """Returns the starts of services with several worker threads each, on all cores."""
    starts = []
    for count in THREADS:
        options = {"threads": count, "core": None}
        alone, base = (f"{name}, {count} threads" for name in (ALONE, BASE))
        in_memory = f"gateway with memory://, {count} threads"
        over_redis = f"{OVER_REDIS}, {count} threads"
        starts += [
            partial(baseline, alone, alone, **options),
            partial(Gateway, in_memory, alone, "memory://", **options),
            partial(baseline, base, base, url, **options),
            partial(Gateway, over_redis, base, url, **options),
        ]
    return starts


@contextmanager
def running(starts):
    """Starts services over one Redis on the core of the load."""
    with ExitStack() as stack:
        url = stack.enter_context(Redis(core=LOAD_CORE)).url
        services = [stack.enter_context(start()) for start in starts(url)]
        yield {service.name: service for service in services}


def measure():
    with running(one_thread_each) as services:
        connections = {str(count): measure_at(services, count, ROUNDS) for count in SECONDS}
        flood = measure_flood(services, ROUNDS)
        memory = measure_memory(services[OVER_REDIS], REQUESTS)
    with running(several_threads_each) as services:
        threads = measure_at(services, min(SECONDS), ROUNDS)
    return {
        "identifiers": IDENTIFIERS,
        "rounds": ROUNDS,
        "pairs": PAIRS,
        "seconds": SECONDS,
        "connections": connections,
        "threads": threads,
        "flood": flood,
        "memory": memory,
    }


def measure_at(services, connections, rounds):
    for service in services.values():
        load(service, connections, 1)
    runs = {name: partial(measure_one, each, connections) for name, each in services.items()}
    bases = {name: service.base for name, service in services.items()}
    results = compared(rounds_of(runs, rounds), bases)
    for name, service in services.items():
        base = services[service.base]
        if base is not service:
            pairs = (
                compare_time(service, base, connections, SECONDS[connections])
                for _ in range(PAIRS)
            )
            results[name]["ratios"]["cpu_us"] = spread(pairs)
    return results


def measure_one(service, connections):
    run = load(service, connections, SECONDS[connections])
    service.verify(run.pop("requests"))
    return run


def measure_flood(services, rounds):
    """Returns the p99 of checks of other clients: beside a flood of denials at the gateway, and
    beside as many connections of any requests at the base."""
    gateway, base = services[OVER_REDIS], services[BASE]

    def run(service, requests):
        flood_words = words_of_wrk(service.port, requests, 50, 2)
        words = service.words_of_load(OTHERS, 1)
        with subprocess.Popen(flood_words, stdout=subprocess.PIPE) as flood:
            others = subprocess.run(words, check=True, capture_output=True, text=True)
            flood.communicate()
        return measured(service, others.stdout)["p99_ms"]

    flood = services[FLOODED].requests
    runs = {"gateway": lambda: run(gateway, flood), "base": lambda: run(base, base.requests)}
    pairs = rounds_of(runs, rounds)
    return {
        "connections": OTHERS,
        "gateway": spread(each["gateway"] for each in pairs),
        "base": spread(each["base"] for each in pairs),
        "ratio": spread(each["gateway"] / each["base"] for each in pairs),
    }


def measure_memory(gateway, requests):
    """Returns the resident bytes with 500 open connections, before and after more requests."""
    before = resident_under_load(gateway, requests // 2)
    after = resident_under_load(gateway, requests)
    return {"requests": requests, "before_bytes": before, "after_bytes": after}


def resident_under_load(gateway, requests):
    """Returns the most resident bytes in runs with 500 connections."""
    resident = []
    while requests > 0:
        run = load(gateway, max(SECONDS), 2, lambda: resident.append(gateway.resident_bytes()))
        requests -= run["requests"]
    return max(resident)
