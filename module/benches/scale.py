"""The growth of the cost of a call with keys, limits, connections and nodes of a cluster."""

import statistics
import time
from contextlib import ExitStack

from scripts.benchmarks.servers import Redis, free_port

from . import commands, memory
from .logs import DAY
from .throughput import check_errors, load

PIPELINE = 16
ROUNDS = 3
CALLS = {1: 30_000, 16: 300_000}  # pipeline: calls of a round
KEYS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LIMITS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
ENTRIES = 2_000_000  # in all logs of one limit
CONNECTIONS = (1, 10, 50, 200, 1_000, 2_000)
NODES = (1, 2, 3)
CLUSTER_KEYS = 100_000
CLUSTER_CALLS = {"RATELIMIT.TB granted": commands.TB_GRANTED, "INCR": commands.INCR}


def median_of(runs):
    """Returns the medians of the fields of some runs."""
    return {field: statistics.median(run[field] for run in runs) for field in runs[0]}


def timed(servers, words, pipeline, *arguments, **more):
    """Returns a run, with the processor time that the servers spent on each call."""
    calls = CALLS[pipeline]
    before = sum(server.cpu_seconds() for server in servers)
    run = load(servers[0], words, calls, pipeline, *arguments, **more)
    spent = sum(server.cpu_seconds() for server in servers) - before
    return {**run, "cpu_us": spent / calls * 1e6}


def rounds_of(calls):
    """Returns the medians for each name, of rounds in which each call is made once."""
    rounds = [{name: call() for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: median_of([each[name] for each in rounds]) for name in calls}


def by_keys(keys):
    """Measures each command on a server of its own, which is full of keys."""
    fills = {"INCR": "INCR and EXPIRE", "RATELIMIT.TB granted": "RATELIMIT.TB"}
    words = {call.name: call.on("key:__rand_int__", {}) for call in CLUSTER_CALLS.values()}
    with ExitStack() as stack:
        calls = {}
        for name, fill in fills.items():
            server = stack.enter_context(Redis())
            memory.loop(fill, keys)(server)
            calls[name] = lambda name=name, server=server: timed(
                [server], words[name], PIPELINE, keys=keys
            )
        return rounds_of(calls)


def by_limit(limit):
    """Measures full logs and buckets with this limit."""
    keys = max(2, min(1_000, ENTRIES // limit))
    names = [f"{{}}:{number:012d}" for number in range(keys)]
    fill = commands.log_of(limit)
    words = {
        "INCR": ("INCR", "incr:__rand_int__"),
        "RATELIMIT.TB granted": ("RATELIMIT.TB", "tb:__rand_int__", limit, "0.001"),
        "RATELIMIT.SW denied": ("RATELIMIT.SW", "denied:__rand_int__", limit, DAY),
        "RATELIMIT.SW granted": ("RATELIMIT.SW", "sw:__rand_int__", commands.LIMIT, DAY),
    }
    with Redis() as server:
        for kind in ("denied", "sw"):
            server.pipeline((fill(name.format(kind)) for name in names), batch=2)
        measured = rounds_of(
            {
                name: lambda call=call: timed([server], call, PIPELINE, keys=keys)
                for name, call in words.items()
            }
        )
        check_errors(server)
        return measured


def by_connections(connections):
    calls = [commands.INCR, commands.TB_GRANTED, commands.log_calls(10, 1)[1]]
    with Redis("--maxclients", 4_000) as server:
        return rounds_of(
            {
                call.name: lambda call=call: timed(
                    [server], call.on(f"{call.words[0]}:__rand_int__", {}), 1, connections
                )
                for call in calls
            }
        )


def by_nodes(nodes):
    """Measures the processor time of the nodes of a cluster on the core of the servers."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(nodes)]
        servers = [
            stack.enter_context(Redis("--cluster-enabled", "yes", "--cluster-port", bus))
            for bus in buses
        ]
        for number, server in enumerate(servers):
            first, last = 16_384 * number // nodes, 16_384 * (number + 1) // nodes - 1
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            server.client.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port, buses[0])
        for server in servers:
            server.wait_for(lambda server=server: knows(server, nodes))
        time.sleep(1)  # A node that has just joined a cluster refuses writes for a moment.
        measured = rounds_of(
            {
                name: lambda call=call: timed(
                    servers,
                    call.on(f"{call.words[0]}:{{tag}}:__rand_int__", {}),
                    PIPELINE,
                    keys=CLUSTER_KEYS,
                    more=["--cluster"] if nodes > 1 else [],
                )
                for name, call in CLUSTER_CALLS.items()
            }
        )
        for server in servers:
            check_errors(server)
        return measured


def knows(server, nodes):
    told = server.client.execute_command("CLUSTER INFO")
    told = (
        told
        if isinstance(told, dict)
        else dict(line.split(":") for line in told.decode().split("\r\n") if line)
    )
    return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes
