"""Processor time, rate and latency of calls under redis-benchmark, as ratios to INCR in the same
round."""

import csv
import io
import random
import subprocess
from functools import partial

from scripts.benchmarks.paired import compared, rounds_of
from scripts.benchmarks.servers import LOAD_CORE, Failure, Redis, pinned

from . import commands

CONNECTIONS = 50
KEYS = 100_000
ROUNDS = 7
CALLS = {1: 50_000, 16: 400_000}  # pipeline: calls of a round
SCRIPT_CALLS = {1: 30_000, 16: 60_000}
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


def measure():
    with Redis() as server:
        scripts = commands.load_scripts(server)
        for call in CALLS_COMPARED:
            fill(server, scripts, call)
        measured = {
            str(pipeline): measure_pipeline(server, scripts, pipeline, ROUNDS) for pipeline in CALLS
        }
        for call in CALLS_COMPARED:
            check(server, scripts, call)
        check_errors(server)
    return {"connections": CONNECTIONS, "keys": KEYS, "rounds": ROUNDS, "pipelines": measured}


def measure_pipeline(server, scripts, pipeline, rounds):
    runs = {
        call.name: partial(measure_call, server, scripts, pipeline, call) for call in CALLS_COMPARED
    }
    return compared(rounds_of(runs, rounds), dict.fromkeys(runs, "INCR"))


def measure_call(server, scripts, pipeline, call):
    """Returns a run, with the processor time that the server spent on each call."""
    calls = (SCRIPT_CALLS if call.words[0] == "EVALSHA" else CALLS)[pipeline]
    words = call.on(key_of(call, "__rand_int__"), scripts)
    before = server.cpu_seconds()
    run = load(server, words, calls, pipeline)
    return {**run, "cpu_us": (server.cpu_seconds() - before) / calls * 1e6}
