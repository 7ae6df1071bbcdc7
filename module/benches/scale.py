"""The growth of the cost of a call with keys, limits, connections and nodes of a cluster."""

import time

from scripts.benchmarks.servers import Redis, free_port

from . import commands, memory
from .logs import DAY
from .throughput import check_errors, load

PIPELINE = 16
CALLS = {1: 60_000, 16: 800_000}  # pipeline: calls of a run
KEYS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LIMITS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
ENTRIES = 2_000_000  # in all logs of one limit
CONNECTIONS = (1, 10, 50, 200, 1_000, 2_000)
NODES = (1, 2, 3)
CLUSTER_KEYS = 100_000
CLUSTER_CALLS = {"RATELIMIT.TB granted": commands.TB_GRANTED, "INCR": commands.INCR}


def timed(servers, words, pipeline, *arguments, **more):
    """Returns a run, with the processor time that the servers spent on each call."""
    calls = CALLS[pipeline]
    before = sum(server.cpu_seconds() for server in servers)
    run = load(servers[0], words, calls, pipeline, *arguments, **more)
    spent = sum(server.cpu_seconds() for server in servers) - before
    for server in servers:
        check_errors(server)
    return {**run, "cpu_us": spent / calls * 1e6}


def by_keys(stack, sizes):
    """Measures each command on a server of its own, which is full of keys."""
    return {size: dict(with_keys(stack, size)) for size in sizes}


def with_keys(stack, keys):
    fills = {"INCR": "INCR and EXPIRE", "RATELIMIT.TB granted": "RATELIMIT.TB"}
    for name, fill in fills.items():
        server = stack.enter_context(Redis())
        memory.loop(fill, keys)(server)
        words = CLUSTER_CALLS[name].on("key:__rand_int__", {})
        yield name, lambda server=server, words=words: timed([server], words, PIPELINE, keys=keys)


def by_limit(stack, sizes):
    """Measures full logs and buckets with each limit."""
    return {size: with_limit(stack.enter_context(Redis()), size) for size in sizes}


def with_limit(server, limit):
    keys = max(2, min(1_000, ENTRIES // limit))
    names = [f"{{}}:{number:012d}" for number in range(keys)]
    fill = commands.log_of(limit)
    words = {
        "INCR": ("INCR", "incr:__rand_int__"),
        "RATELIMIT.TB granted": ("RATELIMIT.TB", "tb:__rand_int__", limit, "0.001"),
        "RATELIMIT.SW denied": ("RATELIMIT.SW", "denied:__rand_int__", limit, DAY),
        "RATELIMIT.SW granted": ("RATELIMIT.SW", "sw:__rand_int__", commands.LIMIT, DAY),
    }
    for kind in ("denied", "sw"):
        server.pipeline((fill(name.format(kind)) for name in names), batch=2)
    return {
        name: lambda call=call: timed([server], call, PIPELINE, keys=keys)
        for name, call in words.items()
    }


def by_connections(stack, sizes):
    calls = [commands.INCR, commands.TB_GRANTED, commands.log_calls(10, 1)[1]]
    server = stack.enter_context(Redis("--maxclients", 4_000))
    return {
        size: {
            call.name: lambda size=size, call=call: timed(
                [server], call.on(f"{call.words[0]}:__rand_int__", {}), 1, size
            )
            for call in calls
        }
        for size in sizes
    }


def by_nodes(stack, sizes):
    """Measures the processor time of the nodes of clusters on the core of the servers."""
    clusters = {size: cluster(stack, size) for size in sizes}
    time.sleep(1)  # A node that has just joined a cluster refuses writes for a moment.
    return {
        size: {
            name: lambda nodes=nodes, call=call: timed(
                nodes,
                call.on(f"{call.words[0]}:{{tag}}:__rand_int__", {}),
                PIPELINE,
                keys=CLUSTER_KEYS,
                more=["--cluster"] if len(nodes) > 1 else [],
            )
            for name, call in CLUSTER_CALLS.items()
        }
        for size, nodes in clusters.items()
    }


def cluster(stack, nodes):
    """Starts the nodes of a cluster, which divide the slots evenly."""
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
    return servers


def knows(server, nodes):
    told = server.client.execute_command("CLUSTER INFO")
    told = (
        told
        if isinstance(told, dict)
        else dict(line.split(":") for line in told.decode().split("\r\n") if line)
    )
    return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == nodes
