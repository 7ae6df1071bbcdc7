"""Instructions that a server spends on each command, counted with callgrind. Unlike times the
counts hardly depend on the machine or on its other load."""

import random
import re
import subprocess
from contextlib import contextmanager

from scripts.benchmarks.servers import Failure, Redis

from . import commands

PIPELINE = 16
WARM_UP = 4_000
CALLS = 10_000
SCRIPT_CALLS = 4_000
LENGTHS = {10: 4_000, 1_000: 1_000, 100_000: 20, 1_000_000: 10}  # entries: keys
SCRIPT_LENGTHS = {10: 4_000, 1_000: 200, 100_000: 5}

PLAIN = [
    commands.INCR,
    commands.PING,
    commands.SET,
    commands.TB_GRANTED,
    commands.TB_DENIED,
    commands.PEEK,
    commands.LUA_TB_GRANTED,
    commands.LUA_TB_DENIED,
]
WRITERS = [commands.INCR, commands.SET, commands.TB_GRANTED, commands.TB_DENIED]


# The server's own work depends on the clock, and so on the speed of the machine.
IDLE = ("--hz", 1, "--dynamic-hz", "no")


@contextmanager
def counting(*settings):
    options = ["--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=profile"]
    with Redis(*IDLE, *settings, core=None, prefix=["valgrind", *options]) as server:
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

    def drive(self, call, keys, calls):
        """Makes calls with random keys, the same keys each time, and checks every reply."""
        order = random.Random(calls)
        each = (call.on(order.choice(keys), self.scripts) for _ in range(calls))
        replies = self.server.pipeline(each, batch=PIPELINE)
        if call.answers and not all(map(call.answers, replies)):
            raise Failure(f"{call.name}: not every call was")

    def count(self, call):
        """Returns the average number of instructions of one call."""
        calls = SCRIPT_CALLS if call.words[0] == "EVALSHA" else CALLS
        self.server.client.flushall()
        keys = [f"key:{number:012d}" for number in range(call.keys)]
        call.prepare(self.server, self.scripts, keys)
        self.drive(call, keys, WARM_UP)
        self.control("--zero")
        self.control("--instr=on")
        self.drive(call, keys, calls)
        self.control("--dump")
        self.control("--instr=off")
        self.dumps += 1
        profile = (self.server.directory / f"profile.{self.dumps}").read_text()
        return round(int(re.search(r"^totals: (\d+)", profile, re.MULTILINE)[1]) / calls)


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
    measured = {"calls": CALLS, "script_calls": SCRIPT_CALLS, "commands": compared(counts)}
    measured["append_only"] = {policy: measure_append_only(policy) for policy in ("no", "everysec")}
    return measured


def measure_append_only(policy):
    with counting("--appendonly", "yes", "--appendfsync", policy) as counter:
        return compared({call.name: counter.count(call) for call in WRITERS})
