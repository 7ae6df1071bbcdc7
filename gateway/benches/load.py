"""The load on a service, and what the service spends on each request."""

import json
import subprocess
import time
from contextlib import ExitStack

from scripts.benchmarks.servers import LOAD_CORE, ROOT, Failure, pinned


def words_of_wrk(port, requests, connections, seconds):
    """Returns the command that sends requests of a file at random."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "10"]
    script = ["-s", ROOT / "gateway/benches/requests.lua", f"http://127.0.0.1:{port}"]
    return list(map(str, [*pinned(LOAD_CORE, wrk), *script, "--", requests]))


def measured(service, printed):
    """Returns what a program of load has measured and printed. Every answer must be a success."""
    lines = printed.splitlines()
    counted = json.loads(lines[-1]) if lines else {}
    if not counted.get("requests") or counted["status"] or counted["broken"]:
        raise Failure(f"{service.name}: {printed}")
    return {
        "per_second": counted["requests"] / counted["micros"] * 1e6,
        "p50_ms": counted["p50"] / 1e3,
        "p95_ms": counted["p95"] / 1e3,
        "p99_ms": counted["p99"] / 1e3,
        "requests": counted["requests"],
    }


def load(service, connections, seconds, meanwhile=None):
    """Runs the load, and calls `meanwhile` late in the run."""
    words = service.words_of_load(connections, seconds)
    cpu, user = service.cpu_seconds(), service.user_seconds()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        if meanwhile:
            time.sleep(seconds * 0.8)
            meanwhile()
        printed = running.stdout.read()
    cpu, user = service.cpu_seconds() - cpu, service.user_seconds() - user
    run = measured(service, printed)
    requests = run["requests"]
    return {**run, "cpu_us": cpu / requests * 1e6, "user_us": user / requests * 1e6}


def compare_time(service, base, connections, seconds):
    """Returns the processor time of a request of a service, in that of its base. Both are under load
    at the same time and, with one thread, on the same core: a machine that becomes slower does so for
    both."""
    both = (service, base)
    before = [each.cpu_seconds() for each in both]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(
                    each.words_of_load(connections, seconds), stdout=subprocess.PIPE, text=True
                )
            )
            for each in both
        ]
        printed = [run.communicate()[0] for run in runs]
    after = [each.cpu_seconds() for each in both]
    times = []
    for each, start, end, text in zip(both, before, after, printed):
        requests = measured(each, text)["requests"]
        each.verify(requests)
        times.append((end - start) / requests)
    return times[0] / times[1]
