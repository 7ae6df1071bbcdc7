"""The gateway as proxies call it: over gRPC, and by forward authentication."""

from scripts.benchmarks.servers import ENVOY

from . import calls, envoy, forward_auth, throughput
from .throughput import measure_at, running

CONNECTIONS = 50


def measure():
    results = {
        "rounds": throughput.ROUNDS,
        "seconds": throughput.SECONDS[CONNECTIONS],
        "connections": CONNECTIONS,
        "calls": measured(calls.starts),
        "forward_auth": measured(forward_auth.starts),
    }
    # The program is for x86-64.
    return results | ({"envoy": envoy.measure()} if ENVOY.exists() else {})


def measured(starts):
    with running(starts) as services:
        return measure_at(services, CONNECTIONS, throughput.ROUNDS)
