"""The targets, and their comparison with the figures."""

from dataclasses import dataclass

from gateway.benches.calls import CALLED
from gateway.benches.forward_auth import WITH_TOKEN, WITHOUT_TOKEN
from gateway.benches.instructions import ONE_LIMIT, THREE_LIMITS
from module.benches.commands import MULTI_ALONE, TB_ALONE, TB_DENIED, TB_GRANTED, TB_SHORT_LIVED

from . import matching
from .paired import ratio
from .report import ELSEWHERE, number, table

INTRODUCTION = """# Targets

Written by `make bench` for those who change the project, from the figures of
[the report](report.md). {passed} of {count} targets are reached; [the misses](misses.md) have their
reasons.

"""

MIB = 2**20

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


def written(results):
    """Returns the page of the targets."""
    targets = all_targets(results)
    rows = [
        (
            target.what,
            f"{number(target.measured)} {target.unit}",
            f"{'at most' if target.at_most else 'at least'} {target.bound} {target.unit}",
            "pass" if target.reached else "**MISS**",
        )
        for target in targets
    ]
    passed = sum(target.reached for target in targets)
    head = ("target", "measured", "bound", "")
    return INTRODUCTION.format(passed=passed, count=len(targets)) + table(head, rows)


def all_targets(results):
    measures = (
        of_instructions,
        of_scripts,
        of_others,
        of_memory,
        of_gateway,
        of_policies,
        of_proxies,
    )
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
    times = {
        name: each["cpu_us"] for name, each in results["throughput"]["pipelines"]["16"].items()
    }
    tb, lua_tb = "RATELIMIT.TB granted", "token bucket in Lua, granted"
    sw, lua_sw = "RATELIMIT.SW granted", "sliding window log in Lua, granted"
    ten = ", 10 entries"
    fewer = "times fewer instructions than the script"
    faster = "times less processor time than the script, pipeline 16"
    yield Target(f"{tb}, {fewer}", counts[lua_tb] / counts[tb], 11, at_most=False)
    yield Target(f"{sw}, {fewer}", counts[lua_sw + ten] / counts[sw + ten], 13, at_most=False)
    yield Target(f"{tb}, {faster}", times[lua_tb] / times[tb], 5, at_most=False)
    yield Target(f"{sw}, {faster}", times[lua_sw] / times[sw], 5, at_most=False)


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


# The most processor time of a request, in that of the base, by the number of connections.
GATEWAY_BOUNDS = {
    "gateway over Redis, token bucket": {"50": 1.15, "500": 1.2},
    "gateway over Redis, sliding window": {"50": 1.15, "500": 1.2},
    "gateway over Redis, a log line each": {"50": 1.2, "500": 1.25},
    "gateway with memory://": {"50": 1.2, "500": 1.2},
    "gateway over Redis, a flood of denials": {"50": 1.2, "500": 1.2},
}


def of_gateway(results):
    gateway = results["gateway"]
    for connections, services in gateway["connections"].items():
        at = f"{connections} connections"
        for name, bounds in GATEWAY_BOUNDS.items():
            measured, base = services[name], services[name]["base"]
            what = f"{name}, {at}"
            time = f"{what}, processor time to {base}"
            yield Target(time, ratio(measured), bounds[connections])
            yield Target(f"{what}, p99 to {base}", ratio(measured, "p99_ms"), 1)
        ours, theirs = services["gateway with memory://"], services.get("throttlecrab in memory")
        if theirs:
            what = f"gateway with memory://, {at}, processor time to throttlecrab"
            yield Target(what, ratio(ours) / ratio(theirs), 1)
    for name, measured in gateway["threads"].items():
        if name.startswith("gateway"):
            bound = 1.2 if "memory" in name else 1.15
            what = f"{name}, processor time to {measured['base']}"
            yield Target(what, ratio(measured), bound)
    what = "p99 of other clients beside a flood, to the same at axum and one INCR"
    yield Target(what, gateway["flood"]["ratio"]["median"], 1)
    before, after = gateway["memory"]["before_bytes"], gateway["memory"]["after_bytes"]
    resident = "gateway, resident at 500 connections"
    yield Target(resident, after / MIB, 32, "MiB")
    grown = (after - before) / MIB
    yield Target(f"{resident}, growth over a million requests", grown, 0.5, "MiB")


# The most instructions of a request, in those of its base.
POLICY_BOUNDS = {ONE_LIMIT: 1.05, THREE_LIMITS: 1.25}


def of_policies(results):
    commands = results["instructions"]["commands"]
    if MULTI_ALONE.name in commands:
        several = commands[MULTI_ALONE.name]["instructions"]
        measured = several / commands[TB_ALONE.name]["instructions"]
        yield Target(f"{MULTI_ALONE.name}, instructions to RATELIMIT.TB", measured, 2.2)
    services = results["gateway-instructions"]["services"]
    for name, bound in POLICY_BOUNDS.items():
        if name in services:
            base = services[name]["base"]
            yield Target(f"{name}, instructions to {base}", services[name]["ratio"], bound)
    for what, nanoseconds in results.get("policies", {}).items():
        name = f"judging a request among 1,000 policies and 10,000 overrides, {what}"
        yield Target(name, nanoseconds, matching.BOUND, "ns")


# The most processor time of a request, in that of the base.
PROXY_BOUNDS = {
    "calls": {CALLED: 1.3},
    "forward_auth": {WITHOUT_TOKEN: 1.15, WITH_TOKEN: 1.15},
}


def of_proxies(results):
    proxies = results.get("proxies", {})
    for part, bounds in PROXY_BOUNDS.items():
        for name, bound in bounds.items():
            if part in proxies:
                measured = proxies[part][name]
                at = f"{proxies['connections']} connections"
                what = f"{name}, {at}, processor time to {measured['base']}"
                yield Target(what, ratio(measured), bound)
