"""Instructions that a server spends on each command, counted with callgrind. Unlike times the
counts hardly depend on the machine or on its other load."""

import random
import re
import subprocess
import time
from contextlib import contextmanager

from scripts.benchmarks.servers import PROGRAM, ROOT, Failure, Redis

from . import commands

PIPELINE = 16
WARM_UP = 4_000
CALLS = 10_000
SCRIPT_CALLS = 4_000
# The calls are counted in this many parts. The part with the fewest instructions has no work that the
# server did once, and none that it does once a second if a part takes less: on Redis 8 to read the
# statistics of the allocator, with 1.2 million instructions.
PARTS = 5
ROUNDS = 10  # of calls that have an interval
LENGTHS = {10: 4_000, 1_000: 1_000, 100_000: 20, 1_000_000: 10}  # entries: keys
LEASES = {1_000: 20}  # live leases: keys
SCRIPT_LENGTHS = {10: 4_000, 1_000: 200, 100_000: 5}

PLAIN = [
    commands.INCR,
    commands.PING,
    commands.SET,
    commands.TB_GRANTED,
    commands.TB_SHORT_LIVED,
    commands.TB_DENIED,
    commands.TB_ALONE,
    commands.MULTI_ALONE,
    commands.PEEK,
    commands.LUA_TB_GRANTED,
    commands.LUA_TB_DENIED,
]
# Newer servers, which `make test-servers` installs as well: none of them on other machines than
# x86-64.
OTHER_SERVERS = ("Redis-8*", "Valkey-9*")
ON_OTHER_SERVERS = [
    commands.INCR,
    commands.TB_GRANTED,
    commands.TB_SHORT_LIVED,
    commands.TB_DENIED,
    *commands.log_calls(10, 1_000),
]
WRITERS = [commands.INCR, commands.SET, commands.TB_GRANTED, commands.TB_DENIED]


# The server's own work depends on the clock, and so on the speed of the machine.
IDLE = ("--hz", 1, "--dynamic-hz", "no")


@contextmanager
def counting(*settings, program=PROGRAM):
    prefix = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=profile"]
    with Redis(*IDLE, *settings, core=None, prefix=prefix, program=program) as server:
        yield Counter(server)


class Counter:
    """One connection that drives a server under callgrind."""

    def __init__(self, server):
        self.server = server
        self.scripts = commands.load_scripts(server)
        self.dumps = 0

    def control(self, *words):
        subprocess.run(
            ["callgrind_control", *words, str(self.server.pid)], check=True, capture_output=True
        )

    def drive(self, call, keys):
        """Makes a call on each of the keys, in this order, and checks every reply."""
        each = (call.on(key, self.scripts) for key in keys)
        replies = self.server.pipeline(each, batch=1 if call.alone else PIPELINE)
        if call.answers and not all(map(call.answers, replies)):
            raise Failure(f"{call.name}: not every call was")

    def count(self, call):
        """Returns the number of instructions of one call, on average in the part with the fewest."""
        self.server.client.flushall()
        keys = [f"key:{number:012d}" for number in range(call.keys)]
        call.prepare(self.server, self.scripts, keys)
        if call.interval:
            return self.count_rounds(call, keys)
        calls = SCRIPT_CALLS if call.words[0] == "EVALSHA" else CALLS
        self.drive(call, at_random(keys, WARM_UP))
        chosen = at_random(keys, calls)
        parts = [chosen[part::PARTS] for part in range(PARTS)]
        return round(min(self.counted(call, part) / len(part) for part in parts))

    def count_rounds(self, call, keys):
        """Counts rounds that begin with the interval of the call between them, and have a call on
        every key."""
        return round(self.counted(call, keys, ROUNDS, call.interval) / ROUNDS / len(keys))

    def counted(self, call, keys, rounds=1, interval=0):
        """Returns the number of instructions of a call on each of the keys in each round."""
        self.control("--zero")
        self.control("--instr=on")
        for _ in range(rounds):
            ready = time.monotonic() + interval
            self.drive(call, keys)
            time.sleep(max(0, ready - time.monotonic()))
        self.control("--dump")
        self.control("--instr=off")
        self.dumps += 1
        profile = (self.server.directory / f"profile.{self.dumps}").read_text()
        return int(re.search(r"^totals: (\d+)", profile, re.MULTILINE)[1])


def at_random(keys, calls):
    """Returns random keys: the same ones each time."""
    order = random.Random(calls)
    return [order.choice(keys) for _ in range(calls)]


def compared(counts):
    """Returns the counts by name, each with its ratio to INCR."""
    return {
        name: {"instructions": count, "ratio": count / counts["INCR"]}
        for name, count in counts.items()
    }


def measure():
    with counting() as counter:
        counts = {call.name: counter.count(call) for call in PLAIN}
        for lengths, calls in (
            (LENGTHS, commands.log_calls),
            (SCRIPT_LENGTHS, commands.script_log_calls),
        ):
            for entries, keys in lengths.items():
                for call in calls(entries, keys):
                    counts[f"{call.name}, {entries:,} entries"] = counter.count(call)
        for leases, keys in LEASES.items():
            for call in commands.lease_calls(leases, keys):
                counts[f"{call.name}, {leases:,} leases"] = counter.count(call)
    measured = {"calls": CALLS, "script_calls": SCRIPT_CALLS, "commands": compared(counts)}
    measured["servers"] = {
        program.parent.name.replace("-", " "): measure_server(program)
        for name in OTHER_SERVERS
        for program in (ROOT / "target" / "servers").glob(f"{name}/server")
    }
    measured["append_only"] = {policy: measure_append_only(policy) for policy in ("no", "everysec")}
    return measured


def measure_append_only(policy):
    with counting("--appendonly", "yes", "--appendfsync", policy) as counter:
        return compared({call.name: counter.count(call) for call in WRITERS})


def measure_server(program):
    with counting(program=program) as counter:
        return compared({call.name: counter.count(call) for call in ON_OTHER_SERVERS})
