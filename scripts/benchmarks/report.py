"""The report in Markdown: the figures and the targets."""

from .targets import ELSEWHERE, all_targets

INTRODUCTION = """# Benchmarks

Written by `make bench`, which measures all of this in one run; the figures are in
[report.json](report.json). Compare ratios: absolute figures are for scale, and differ by tens of
percent from run to run and by more between machines.

## The machine

"""

INSTRUCTIONS = """Counted with callgrind (user space of the whole server, all threads): one
connection, pipelines of 16, 1,000 keys, {calls:,} calls of each command after
a warm-up of 4,000 ({script_calls:,} of each script), windows of a day, and `hz` 1, so that
little of what the server does by its timer is in them. Every answer is checked
to be what the name says. Logs have so many entries before the first call, each
with a millisecond of its own; keys are 4,000 for logs of 10 entries, 1,000 for
1,000, 20 for 100,000 and 10 for 1,000,000. Of the calls once a second, ten on each
key are counted, without what the server does between them. Counts repeat within
about 1%.

![Instructions of a call](instructions.svg)
![Instructions by the length of the log](length.svg)

"""

APPEND_ONLY = """
### With an append-only file

The same, with `appendonly yes`: the ratios are to INCR with it.

"""

THROUGHPUT = """redis-benchmark, {connections} connections, {keys:,} keys at random which all
exist, logs of 10 entries at first; redis-server on one core and the load on the
other. Medians of {rounds} rounds, in each of which every command had its turn;
ratios are to INCR in the same round. Before and after, answers are checked to be
what the name says.
"""

MEMORY = """By how much `used_memory` of a new server grows, for each of {keys:,} keys with an
expiry. Names of keys have 16 bytes.

![Memory of a key](memory.svg)

"""

GRANTS = """
### A logged grant

The same for logs in a window of an hour, divided by the number of grants: so the key itself is in
it. Grants come one by one at times of their own; where ticks are shared, {grants_per_tick} come in
each of them.

![Memory of a logged grant](grants.svg)

"""

TRAFFIC = """Bytes of one call in `master_repl_offset` with a replica, and in the append-only
file. Names of keys have 16 bytes.

"""

GATEWAY = """wrk, POST with a JSON body, {identifiers:,} identifiers at random, keep-alive. Each
service has core 0 to itself; wrk and redis-server share core 1. Medians of {rounds}
rounds of {seconds} s, in each of which every service had its turn; ratios are to
axum and one INCR in the same round. Every answer has status 200 and is a grant; the
gateway's own metrics confirm it. The gateway runs with its defaults, but for
`LOG_LEVEL=WARNING` where no line per request is asked for, and
`REDIS_TIMEOUT_MS=5000`, so that a stall of the machine is no outage.

* *axum alone* parses the check and answers it; *axum and one INCR* also asks Redis, over one
  multiplexed connection ([baseline](../../gateway/benches/baseline/src/main.rs)).
* *FastAPI and Lua* is the original design: FastAPI, uvicorn, redis-py and a script for each
  algorithm ([original](../../gateway/benches/original/app.py)).
"""

GROWTH = """
## How cost grows

With keys, limits, connections, gateways and nodes of a cluster: [measured](scale.md) by
`make bench-scale`.
"""


def table(head, rows):
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    lines += [" | ".join(map(str, row)) for row in rows]
    return "".join(f"| {line} |\n" if "---" not in line else f"|{line}|\n" for line in lines)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def written(results, misses):
    """Returns the whole report; `misses` is the handwritten text about missed targets."""
    sections = {
        "Targets": targets(results, misses),
        "Instructions": instructions(results["instructions"]),
        "Throughput": throughput(results["throughput"]),
        "Memory": memory(results["memory"]),
        "Replication and append-only file": traffic(results["traffic"]),
        "Gateway": gateway(results["gateway"]),
    }
    body = "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())
    machine = table(("", ""), results["machine"].items())
    return INTRODUCTION + machine + body


def targets(results, misses):
    rows = [
        (
            target.what,
            f"{number(target.measured)} {target.unit}",
            f"{'at most' if target.at_most else 'at least'} {target.bound} {target.unit}",
            "pass" if target.reached else "**MISS**",
        )
        for target in all_targets(results)
    ]
    passed = sum(row[3] == "pass" for row in rows)
    text = f"{passed} of {len(rows)} are reached. [Below](misses.md) is why the others are not.\n\n"
    text += table(("target", "measured", "bound", ""), rows)
    return text + (f"\n{misses}" if misses else "")


def counts(measured):
    rows = [
        (name, f"{each['instructions']:,}", f"{each['ratio']:.2f}")
        for name, each in measured.items()
    ]
    return table(("command", "instructions", "× INCR"), rows)


def instructions(measured):
    text = INSTRUCTIONS.format(**measured) + counts(measured["commands"])
    text += "\nMeasured elsewhere, in another run on another machine:\n\n"
    rows = [
        (f"{other}, {outcome}", f"{each[outcome]:,}", f"{each[outcome] / each['incr']:.2f}")
        for other, each in ELSEWHERE.items()
        for outcome in ("granted", "denied")
    ]
    text += table(("", "instructions", "× its INCR"), rows)
    for server, commands in measured["servers"].items():
        text += f"\n### {server}\n\n{counts(commands)}"
    text += APPEND_ONLY
    for policy, commands in measured["append_only"].items():
        text += f"`appendfsync {policy}`:\n\n{counts(commands)}\n"
    return text.rstrip("\n") + "\n"


RATES = ("ratio", "p50 ms", "p95 ms", "p99 ms", "per second, for scale")


def rates(measured):
    rows = [
        (
            name,
            f"{each['ratio']:.2f}",
            *(f"{each[field]:.2f}" for field in ("p50_ms", "p95_ms", "p99_ms")),
            f"{each['per_second']:,.0f}",
        )
        for name, each in measured.items()
    ]
    return table(("", *RATES), rows)


def rates_with_cpu(what, sizes):
    """Returns a table of rates by size, with the processor time of a call."""
    rows = [
        (
            f"{int(size):,}",
            name,
            *(f"{each[field]:.2f}" for field in ("cpu_us", "p50_ms", "p95_ms", "p99_ms")),
            f"{each['per_second']:,.0f}",
        )
        for size, calls in sizes.items()
        for name, each in calls.items()
    ]
    return table((what, "", "processor time, µs", *RATES[1:]), rows)


def throughput(measured):
    text = THROUGHPUT.format(**measured)
    for pipeline, commands in measured["pipelines"].items():
        text += f"\n### Pipeline {pipeline}\n\n"
        text += f"![Calls per second](throughput-{pipeline}.svg)\n\n{rates(commands)}"
    return text


def memory(measured):
    rows = [
        (name, f"{each['bytes']:.1f}", f"{each['ratio']:.2f}")
        for name, each in measured["per_key"].items()
    ]
    text = MEMORY.format(**measured) + table(("", "bytes", "× INCR and EXPIRE"), rows)
    names = list(next(iter(measured["per_grant"].values())))
    rows = [
        (f"{int(grants):,}", *(f"{each[name]:.1f}" for name in names))
        for grants, each in measured["per_grant"].items()
    ]
    return text + GRANTS.format(**measured) + table(("grants", *names), rows)


def traffic(measured):
    rows = [
        (name, f"{each['replication']:.0f}", f"{each['append_only']:.0f}")
        for name, each in measured["calls"].items()
    ]
    return TRAFFIC + table(("", "replication", "append-only file"), rows)


def gateway(measured):
    text = GATEWAY.format(**measured)
    for connections, services in measured["connections"].items():
        text += f"\n### {connections} connections\n\n"
        text += f"![Requests per second](gateway-{connections}.svg)\n\n{rates(services)}"
    resident = measured["memory"]
    before, after = (resident[f"{when}_bytes"] / 2**20 for when in ("before", "after"))
    return text + (
        "\n### Memory of the gateway\n\n"
        f"Resident with 500 connections under load: {before:.1f} MiB after the runs above, "
        f"{after:.1f} MiB after\n{resident['requests']:,} requests more.\n"
    )
