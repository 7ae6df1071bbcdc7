"""The load of wrk on a service, and what the service spends on each request."""

import json
import subprocess
import time

from scripts.benchmarks.servers import LOAD_CORE, ROOT, Failure, pinned

IDENTIFIERS = 10_000


def words_of_wrk(service, connections, seconds):
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10"]
    script = ["-s", ROOT / "gateway/benches/requests.lua", f"http://127.0.0.1:{service.port}"]
    words = [*pinned(LOAD_CORE, wrk), *script, "--", service.path, service.body, IDENTIFIERS]
    return list(map(str, words))


def measured_by_wrk(service, printed):
    """Returns what wrk has measured. Every answer must have status 200."""
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


def load(service, connections, seconds, meanwhile=None):
    """Runs wrk, and calls `meanwhile` late in the run."""
    cpu, user = service.cpu_seconds(), service.user_seconds()
    words = words_of_wrk(service, connections, seconds)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        if meanwhile:
            time.sleep(seconds * 0.8)
            meanwhile()
        printed = running.stdout.read()
    cpu, user = service.cpu_seconds() - cpu, service.user_seconds() - user
    run = measured_by_wrk(service, printed)
    requests = run["requests"]
    return {**run, "cpu_us": cpu / requests * 1e6, "user_us": user / requests * 1e6}
