"""Calls per second and their latency under redis-benchmark, as ratios to INCR in the same run:
every round has each command once, and the medians of the rounds count."""

import csv
import io
import random
import statistics
import subprocess

from scripts.benchmarks.servers import LOAD_CORE, Failure, Redis, pinned

from . import commands

CONNECTIONS = 50
KEYS = 100_000
ROUNDS = 5
CALLS = {1: 80_000, 16: 500_000}  # pipeline: calls of a round
SCRIPT_CALLS = {1: 50_000, 16: 100_000}
SAMPLE = 500

FIELDS = {
    "rps": "per_second",
    "p50_latency_ms": "p50_ms",
    "p95_latency_ms": "p95_ms",
    "p99_latency_ms": "p99_ms",
}

CALLS_COMPARED = commands.side_by_side(KEYS)


def key_of(call, number):
    return f"{call.name.replace(' ', '-')}:{number}"


def load(server, words, calls, pipeline, connections=CONNECTIONS, keys=KEYS, more=()):
    """Runs redis-benchmark once, and returns its measured values."""
    options = ["-p", server.port, "-c", connections, "-P", pipeline, "-r", keys, "-n", calls]
    words = [*pinned(LOAD_CORE, ["redis-benchmark"]), *options, "--csv", *more, *words]
    ran = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)
    if ran.returncode or ran.stderr.strip():
        raise Failure(f"redis-benchmark: {ran.stdout}{ran.stderr}")
    # The text before the head of the table lists the nodes of a cluster.
    (row,) = csv.DictReader(io.StringIO(ran.stdout[ran.stdout.index('"test"') :]))
    return {ours: float(row[theirs]) for theirs, ours in FIELDS.items()}


def fill(server, scripts, call):
    """Creates every key before the measurement, in the state that the call needs."""
    keys = [key_of(call, f"{number:012d}") for number in range(KEYS)]
    if callable(call.fill):
        server.pipeline(call.fill(key) for key in keys)
    else:
        server.pipeline(call.on(key, scripts) for key in keys)


def check(server, scripts, call):
    """Checks that the call still has the outcome in its name on random keys."""
    numbers = random.sample(range(KEYS), SAMPLE)
    keys = [key_of(call, f"{number:012d}") for number in numbers]
    replies = server.pipeline(call.on(key, scripts) for key in keys)
    if call.answers and not all(map(call.answers, replies)):
        raise Failure(f"{call.name}: not every call was")


def check_errors(server):
    for command, counts in server.client.info("commandstats").items():
        if counts["failed_calls"] or counts["rejected_calls"]:
            raise Failure(f"{command} was refused")


def measure(rounds=ROUNDS):
    with Redis() as server:
        scripts = commands.load_scripts(server)
        for call in CALLS_COMPARED:
            fill(server, scripts, call)
        measured = {
            str(pipeline): measure_pipeline(server, scripts, pipeline, rounds) for pipeline in CALLS
        }
        for call in CALLS_COMPARED:
            check(server, scripts, call)
        check_errors(server)
    return {"connections": CONNECTIONS, "keys": KEYS, "rounds": rounds, "pipelines": measured}


def measure_pipeline(server, scripts, pipeline, rounds):
    runs = {call.name: [] for call in CALLS_COMPARED}
    for _ in range(rounds):
        for call in CALLS_COMPARED:
            count = SCRIPT_CALLS if call.words[0] == "EVALSHA" else CALLS
            words = call.on(key_of(call, "__rand_int__"), scripts)
            runs[call.name].append(load(server, words, count[pipeline], pipeline))
    return compared(runs, "INCR")


def compared(runs, first):
    """Returns the medians of each field, and of the ratios of the rates within a round."""
    measured = {}
    for name, rounds in runs.items():
        measured[name] = {
            field: statistics.median(run[field] for run in rounds) for field in rounds[0]
        }
        measured[name]["ratio"] = statistics.median(
            run["per_second"] / base["per_second"]
            for run, base in zip(rounds, runs[first], strict=True)
        )
    return measured
