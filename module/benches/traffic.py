"""Bytes that a call sends to a replica, and appends to the append-only file."""

from scripts.benchmarks.servers import Failure, Redis

from . import commands

KEYS = 1_000
CALLS = commands.side_by_side(KEYS)


def bytes_of(server):
    return {
        "replication": server.client.info("replication")["master_repl_offset"],
        "append_only": server.client.info("persistence")["aof_current_size"],
    }


def measure():
    settings = ["--repl-ping-replica-period", 3600, "--repl-diskless-sync-delay", 0]
    with Redis(*settings, "--appendonly", "yes") as server, Redis() as replica:
        replica.client.replicaof("127.0.0.1", server.port)
        replica.wait_for(lambda: is_online(server))
        scripts = commands.load_scripts(server)
        measured = {call.name: measure_call(server, scripts, call) for call in CALLS}
    return {"keys": KEYS, "calls": measured}


def is_online(server):
    replicas = server.client.info("replication")
    return replicas.get("slave0", {}).get("state") == "online"


def measure_call(server, scripts, call):
    keys = [f"key:{number:012d}" for number in range(KEYS)]
    server.client.flushall()
    call.prepare(server, scripts, keys)
    before = bytes_of(server)
    replies = server.pipeline(call.on(key, scripts) for key in keys)
    after = bytes_of(server)
    if call.answers and not all(map(call.answers, replies)):
        raise Failure(f"{call.name}: not every call was")
    return {where: (after[where] - before[where]) / KEYS for where in before}
