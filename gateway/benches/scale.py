"""The growth of the cost of a request with connections and with gateways over one Redis."""

from concurrent.futures import ThreadPoolExecutor

from scripts.benchmarks.servers import LOAD_CORE, Redis

from .services import Gateway, baseline
from .throughput import BASE, load

SECONDS = 2
CONNECTIONS = (1, 10, 50, 200, 1_000, 2_000)
GATEWAYS = (1, 2, 3, 4)
OURS = "gateway over Redis"


def timed(redis, services, connections):
    """Returns one run with all services at once: the sum of rates, the latencies of the slowest, and
    the processor time that the services and Redis spent on a request."""
    before = spent_by(services), redis.cpu_seconds()
    with ThreadPoolExecutor(len(services)) as threads:
        runs = list(threads.map(lambda service: load(service, connections, SECONDS), services))
    after = spent_by(services), redis.cpu_seconds()
    measured = {field: max(run[field] for run in runs) for field in ("p50_ms", "p95_ms", "p99_ms")}
    requests = sum(run["requests"] for run in runs)
    own, of_redis = ((end - start) / requests * 1e6 for start, end in zip(before, after, strict=True))
    return {
        "per_second": sum(run["per_second"] for run in runs),
        **measured,
        "cpu_us": own,
        "redis_cpu_us": of_redis,
    }


def spent_by(services):
    return sum(service.cpu_seconds() for service in services)


def start(stack, count):
    """Starts gateways over one Redis on the core of the load."""
    redis = stack.enter_context(Redis(core=LOAD_CORE))
    gateways = [
        stack.enter_context(Gateway(OURS, BASE, redis.url)) for _ in range(count)
    ]
    return redis, gateways


def by_connections(stack, sizes):
    redis, (ours,) = start(stack, 1)
    base = stack.enter_context(baseline(BASE, BASE, redis.url))
    return {
        size: {
            service.name: lambda size=size, service=service: timed(redis, [service], size)
            for service in (base, ours)
        }
        for size in sizes
    }


def by_gateways(stack, sizes):
    """Measures gateways that share the core of the servers, with 50 connections each."""
    redis, gateways = start(stack, max(sizes))
    return {
        size: {OURS: lambda size=size: timed(redis, gateways[:size], 50)} for size in sizes
    }
