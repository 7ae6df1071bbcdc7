"""The targets, and their comparison with the figures."""

from dataclasses import dataclass

from module.benches.commands import TB_DENIED, TB_GRANTED, TB_SHORT_LIVED

MIB = 2**20

# Figures of another machine: redis-cell with the same version of the server (INCR took 3,981
# there), and the development build of Redis with GCRA (INCR took 4,720).
ELSEWHERE = {
    "redis-cell": {"granted": 23_163, "denied": 13_132, "incr": 3_981},
    "Redis's withdrawn GCRA": {"granted": 10_730, "denied": 6_820, "incr": 4_720},
}
LENGTHS = ("10", "1,000", "100,000", "1,000,000")


@dataclass(frozen=True)
class Target:
    what: str
    measured: float
    bound: float
    unit: str = "×"
    at_most: bool = True

    @property
    def reached(self):
        """Compares the figure of the report, which has two digits after the point."""
        measured = round(self.measured, 2)
        return measured <= self.bound if self.at_most else measured >= self.bound


def all_targets(results):
    measures = (of_instructions, of_scripts, of_others, of_memory, of_gateway)
    return [target for measure in measures for target in measure(results)]


def of_instructions(results):
    measured = results["instructions"]
    yield from of_commands(measured["commands"], "instructions to INCR")
    yield from of_logs(measured["commands"])
    for server, commands in measured["servers"].items():
        yield from of_commands(commands, f"instructions to INCR, {server}")
    for policy, counts in measured["append_only"].items():
        tb, plain = counts["RATELIMIT.TB granted"], counts["SET EX"]
        ratio = tb["instructions"] / plain["instructions"]
        with_log = f"appendfsync {policy}, instructions to SET EX with it"
        yield Target(f"RATELIMIT.TB granted, {with_log}", ratio, 1.5)


# Names of calls: the most instructions, as a ratio to INCR.
BOUNDS = {
    TB_GRANTED.name: 1.85,
    TB_SHORT_LIVED.name: 2.0,
    TB_DENIED.name: 1.7,
    "RATELIMIT.SW granted": 2.0,
    "RATELIMIT.SW denied": 1.7,
}


def of_commands(commands, to_incr):
    for name, bound in BOUNDS.items():
        ratios = [each["ratio"] for other, each in commands.items() if is_same(other, name)]
        longest = ", the most of all lengths" if len(ratios) > 1 else ""
        yield Target(f"{name}{longest}, {to_incr}", max(ratios), bound)


def is_same(call, name):
    """Returns whether a call has this name, with the entries of its log or without."""
    return call == name or call.startswith(f"{name}, ") and call.endswith(" entries")


def of_logs(commands):
    granted = [commands[f"RATELIMIT.SW granted, {n} entries"]["ratio"] for n in LENGTHS]
    yield Target("RATELIMIT.SW granted, longest log to shortest", granted[-1] / granted[0], 1.05)


def of_scripts(results):
    counts = {
        name: count["instructions"] for name, count in results["instructions"]["commands"].items()
    }
    rates = {
        name: rate["per_second"] for name, rate in results["throughput"]["pipelines"]["16"].items()
    }
    tb, lua_tb = "RATELIMIT.TB granted", "token bucket in Lua, granted"
    sw, lua_sw = "RATELIMIT.SW granted", "sliding window log in Lua, granted"
    ten = ", 10 entries"
    fewer = "times fewer instructions than the script"
    faster = "throughput of the script, pipeline 16"
    yield Target(f"{tb}, {fewer}", counts[lua_tb] / counts[tb], 11, at_most=False)
    yield Target(f"{sw}, {fewer}", counts[lua_sw + ten] / counts[sw + ten], 13, at_most=False)
    yield Target(f"{tb}, {faster}", rates[tb] / rates[lua_tb], 5, at_most=False)
    yield Target(f"{sw}, {faster}", rates[sw] / rates[lua_sw], 5, at_most=False)


def of_others(results):
    commands = results["instructions"]["commands"]
    for other, counts in ELSEWHERE.items():
        for outcome in ("granted", "denied"):
            name = f"RATELIMIT.TB {outcome}"
            ours = commands[name]["instructions"]
            what = f"{name}, instructions to {other}'s (measured elsewhere)"
            yield Target(what, ours / counts[outcome], 1)


def of_memory(results):
    memory = results["memory"]
    grants = memory["per_grant"].values()
    alone = max(each["RATELIMIT.SW"] for each in grants)
    shared = max(each["RATELIMIT.SW, shared ticks"] for each in grants)
    what = "token bucket, memory of a key to that of INCR and EXPIRE"
    yield Target(what, memory["per_key"]["RATELIMIT.TB"]["ratio"], 1.43)
    log = "sliding window log, the most of all lengths"
    yield Target(f"{log}, memory of a grant", alone, 8, "bytes")
    yield Target(f"{log}, memory of a grant that shares its tick", shared, 4, "bytes")


def of_gateway(results):
    gateway = results["gateway"]
    for connections, rates in gateway["connections"].items():
        base, alone = rates["axum and one INCR"], rates["axum alone"]
        at = f"{connections} connections"
        for kind in ("token bucket", "sliding window", "a log line each"):
            over_redis = rates[f"gateway over Redis, {kind}"]
            what = f"gateway over Redis, {kind}, {at}"
            yield Target(
                f"{what}, rate to axum and one INCR", over_redis["ratio"], 0.85, at_most=False
            )
            yield Target(
                f"{what}, p99 to axum and one INCR", over_redis["p99_ms"] / base["p99_ms"], 1.5
            )
        memory = rates["gateway with memory://"]["per_second"] / alone["per_second"]
        yield Target(
            f"gateway with memory://, {at}, rate to axum alone", memory, 0.85, at_most=False
        )
    before, after = gateway["memory"]["before_bytes"], gateway["memory"]["after_bytes"]
    resident = "gateway, resident at 500 connections"
    yield Target(resident, after / MIB, 32, "MiB")
    grown = (after - before) / MIB
    yield Target(f"{resident}, growth over a million requests", grown, 0.5, "MiB")
