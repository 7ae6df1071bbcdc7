"""The growth of the cost of a request with connections and with gateways over one Redis."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from module.benches.scale import median_of
from scripts.benchmarks.servers import LOAD_CORE, Redis

from .services import Gateway, baseline
from .throughput import BASE, load

ROUNDS = 3
SECONDS = 3
CONNECTIONS = (1, 10, 50, 200, 1_000, 2_000)
GATEWAYS = (1, 2, 3, 4)


def timed(services, connections):
    """Returns one run with all services at once: the sum of rates, the latencies of the slowest."""
    before = sum(service.cpu_seconds() for service in services)
    with ThreadPoolExecutor(len(services)) as threads:
        runs = list(threads.map(lambda service: load(service, connections, SECONDS), services))
    spent = sum(service.cpu_seconds() for service in services) - before
    measured = {field: max(run[field] for run in runs) for field in ("p50_ms", "p95_ms", "p99_ms")}
    requests = sum(run["requests"] for run in runs)
    return {
        "per_second": sum(run["per_second"] for run in runs),
        **measured,
        "cpu_us": spent / requests * 1e6,
    }


def by_connections(connections):
    with Redis(core=LOAD_CORE) as redis, ExitStack() as stack:
        services = [
            stack.enter_context(baseline(BASE, redis.url)),
            stack.enter_context(Gateway("gateway over Redis", "token_bucket", redis.url)),
        ]
        runs = [[timed([service], connections) for service in services] for _ in range(ROUNDS)]
    return {
        service.name: median_of([run[number] for run in runs])
        for number, service in enumerate(services)
    }


def by_gateways(gateways):
    """Measures gateways that share the core of the servers, with 50 connections each."""
    with Redis(core=LOAD_CORE) as redis, ExitStack() as stack:
        services = [
            stack.enter_context(Gateway("gateway over Redis", "token_bucket", redis.url))
            for _ in range(gateways)
        ]
        return {services[0].name: median_of([timed(services, 50) for _ in range(ROUNDS)])}
