"""The report in Markdown, for readers who compare."""

# Figures of another machine: redis-cell with the same version of the server (INCR took 3,981
# there), and the development build of Redis with GCRA (INCR took 4,720).
ELSEWHERE = {
    "redis-cell": {"granted": 23_163, "denied": 13_132, "incr": 3_981},
    "Redis's withdrawn GCRA": {"granted": 10_730, "denied": 6_820, "incr": 4_720},
}

INTRODUCTION = """# Benchmarks

Written by `make bench`; the figures are in [report.json](report.json). All ratios are of figures of one
run.

"""

HOW_TO_READ = """
Compare ratios. Instructions are counted and repeat within 3%. The system counts the processor time
of a process: a ratio is the median of short runs, each of which measures both sides, and its range
over all runs is in parentheses. Two services are under load at the same time, on the same core, so
that a machine that becomes slower does so for both. Requests per second and latencies also depend on
the processor time that the load generator gets: they differ by tens of percent from run to run.

## The machine

"""

INSTRUCTIONS = """Counted with callgrind (user space of the whole server, all threads): one
connection, pipelines of 16, 1,000 keys, {calls:,} calls of each command after
a warm-up of 4,000 ({script_calls:,} of each script), windows of a day, and `hz` 1, so that
little of what the server does by its timer is in them. Every answer is checked
to be what the name says. Logs have so many entries before the first call, each
with a millisecond of its own; keys are 4,000 for logs of 10 entries, 1,000 for
1,000, 20 for 100,000 and 10 for 1,000,000. Of the calls once a second, ten on each of
2,000 keys are counted, with what the server does once a second by itself. The other counts leave that
out where a part of their calls takes less than a second. Counts repeat within about 1%, and within 4%
on Redis 8.2.3.

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

GATEWAY = """wrk, POST with a JSON body, {identifiers:,} identifiers at random, keep-alive, requests
that are made in advance. Each service has core 0 to itself and one worker thread; wrk and
redis-server share core 1. Medians of {rounds} rounds of a second (two with 500 connections), in each
of which every service had its turn; ratios are to the first row of the same table. The ratios of
processor time are the medians of {pairs} more runs, in each of which the service and the first row
share core 0, both under load. Every answer has status 200, and is a grant where the name says nothing else: the metrics of the gateway confirm
it. The gateway runs with its defaults, but for `LOG_LEVEL=WARNING` where no line per request is
asked for, and `REDIS_TIMEOUT_MS=5000`, so that a stall of the machine is no outage.

* *axum alone* parses the check and answers it; *axum and one INCR* also asks Redis, over one
  multiplexed connection ([baseline](../../gateway/benches/baseline/src/main.rs)). They are the least
  that such a service can be: they have no ids, no metrics, no timeouts and no headers of a decision.
* *throttlecrab* is [throttlecrab-server](https://crates.io/crates/throttlecrab-server) over HTTP,
  which keeps its state in its process. The server of limitador is not on crates.io, so it is not
  measured here.
* *a flood of denials* is one identifier over its limit: the gateway repeats the denial of Redis.
* *FastAPI and Lua* is the original design: FastAPI, uvicorn, redis-py and a script for each
  algorithm ([original](../../gateway/benches/original/app.py)).
"""

PROXIES = """The gateway as proxies ask it, measured as above, with {connections} connections and medians of
{rounds} rounds. One limit decides on each request.

* *ShouldRateLimit* is the call of Envoy, over gRPC; *tonic and one INCR* serves it as *axum and one INCR*
  serves a check ([baseline](../../gateway/benches/baseline/src/rate_limit_service.rs)). The load is a
  client with one call at a time over each connection.
* *forward authentication* is a request of a proxy, with the headers of an end user; *a check* asks the
  same policies with a JSON body. Each end user has a token of its own, which the gateway has verified
  before.

"""

ENVOY = """
### Envoy

{connections} connections to Envoy {version}, with one worker thread on core 0; wrk, the service behind
Envoy (*axum alone*), the gateway and redis-server share core 1. *Added* is the difference of two runs of
the same round.

"""

FLOOD = """
### Other clients beside a flood

The p99 of checks over {connections} connections while 50 more connections flood the service: the
gateway with denials of one identifier, *axum and one INCR* with any requests.

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


def written(results):
    """Returns the whole report."""
    sections = {
        "Instructions": instructions(results["instructions"]),
        "Throughput": throughput(results["throughput"]),
        "Memory": memory(results["memory"]),
        "Replication and append-only file": traffic(results["traffic"]),
        "Gateway": gateway(results),
    }
    if "proxies" in results:
        sections["Proxies"] = proxies(results["proxies"], results["machine"])
    body = "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())
    machine = table(("", ""), results["machine"].items())
    return INTRODUCTION + summary(results) + HOW_TO_READ + machine + body


def summary(results):
    """Returns what a user gains, by one line for each alternative."""
    commands = results["instructions"]["commands"]
    pipelined = results["throughput"]["pipelines"]["16"]
    key = results["memory"]["per_key"]
    bucket, script = "RATELIMIT.TB granted", "token bucket in Lua, granted"
    log, log_script = "RATELIMIT.SW granted", "sliding window log in Lua, granted"
    entries = ", 1,000 entries"

    def times(other, ours):
        return f"{commands[other]['instructions'] / commands[ours]['instructions']:.1f}"

    def cpu(other, ours):
        return f"{pipelined[other]['cpu_us'] / pipelined[ours]['cpu_us']:.1f}"

    cell = ELSEWHERE["redis-cell"]
    cell_ratio = cell["granted"] / cell["incr"] / commands[bucket]["ratio"]
    rows = [
        ("a token bucket as a Lua script", times(script, bucket), cpu(script, bucket),
         f"{key['token bucket in Lua']['bytes'] / key['RATELIMIT.TB']['bytes']:.1f}"),
        ("a sliding window log as a Lua script", times(log_script + entries, log + entries),
         cpu(log_script, log), f"{log_memory(results):.0f}"),
        ("redis-cell, [measured elsewhere](#instructions)", f"{cell_ratio:.1f}", "", ""),
        ("a counter: `INCR`, which limits nothing", f"{1 / commands[bucket]['ratio']:.2f}",
         cpu("INCR", bucket), f"{1 / key['RATELIMIT.TB']['ratio']:.2f}"),
    ]
    head = ("a grant takes, times ours", "instructions", "processor time, pipeline 16", "memory")
    services = results["gateway"]["connections"]["50"]
    served = [
        (name, f"{each['cpu_us']:.1f}", f"{each['per_second']:,.0f}", f"{each['p99_ms']:.1f}")
        for name, each in services.items()
    ]
    heads = ("a check over HTTP, 50 connections, one core", "processor time, µs",
             "requests per second", "p99 ms")
    return table(head, rows) + "\n" + table(heads, served)


def log_memory(results):
    """Returns how many times more memory a grant takes in the sorted set of a script."""
    grants = results["memory"]["per_grant"]["1000"]
    return grants["sliding window log in Lua"] / grants["RATELIMIT.SW"]


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


RATES = ("p50 ms", "p95 ms", "p99 ms", "per second")


def spread(measured, digits=2):
    """Returns the median of ratios, and their range."""
    median, low, high = (f"{measured[each]:.{digits}f}" for each in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def timed(measured, base):
    """Returns a table of processor time, rates and latencies, with ratios to the base."""
    rows = [
        (
            name,
            spread(each["ratios"]["cpu_us"]),
            f"{each['cpu_us']:.2f}",
            spread(each["ratios"]["per_second"]),
            *(f"{each[field]:.2f}" for field in ("p50_ms", "p95_ms", "p99_ms")),
            f"{each['per_second']:,.0f}",
        )
        for name, each in measured.items()
    ]
    head = ("", f"processor time, × {base}", "µs", f"rate, × {base}", *RATES)
    return table(head, rows)


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
    return table((what, "", "processor time, µs", *RATES), rows)


def throughput(measured):
    text = THROUGHPUT.format(**measured)
    for pipeline, commands in measured["pipelines"].items():
        text += f"\n### Pipeline {pipeline}\n\n"
        text += f"![Processor time of a call](throughput-{pipeline}.svg)\n\n"
        text += timed(commands, "INCR")
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


def gateway(results):
    measured = results["gateway"]
    text = GATEWAY.format(**measured) + gateway_instructions(results["gateway-instructions"])
    for connections, services in measured["connections"].items():
        text += f"\n### {connections} connections\n\n"
        text += f"![Processor time of a request](gateway-{connections}.svg)\n\n"
        text += by_base(services)
    text += "\n### Several worker threads\n\nOn all cores, which wrk and redis-server use, too.\n\n"
    text += by_base(measured["threads"])
    flood = measured["flood"]
    rows = [
        ("gateway", spread(flood["gateway"])),
        ("axum and one INCR", spread(flood["base"])),
        ("ratio", spread(flood["ratio"])),
    ]
    text += FLOOD.format(**flood) + table(("", "p99 ms"), rows)
    resident = measured["memory"]
    before, after = (resident[f"{when}_bytes"] / 2**20 for when in ("before", "after"))
    return text + (
        "\n### Memory of the gateway\n\n"
        f"Resident with 500 connections under load: {before:.1f} MiB after the runs above, "
        f"{after:.1f} MiB after\n{resident['requests']:,} requests more.\n"
    )


def proxies(measured, machine):
    text = PROXIES.format(**measured)
    text += by_base(measured["calls"]) + "\n" + by_base(measured["forward_auth"])
    if "envoy" in measured:
        text += ENVOY.format(**measured["envoy"], version=machine["Envoy"])
        text += behind_envoy(measured["envoy"])
    return text


def behind_envoy(measured):
    """Returns the latencies through Envoy, and what the rate limit service adds to them."""
    rows = [
        (
            name,
            *(f"{each[field]:.2f}" for field in ("p50_ms", "p99_ms")),
            f"{each['per_second']:,.0f}",
            f"{each['cpu_us']:.1f}",
            f"{each['gateway_us']:.1f}" if each["gateway_us"] else "",
        )
        for name, each in measured["services"].items()
    ]
    added = measured["added"]
    rows.append(("added", spread(added["p50_ms"]), spread(added["p99_ms"]), "", "", ""))
    times = ("processor time of Envoy, µs", "of the gateway, µs")
    return table(("", "p50 ms", "p99 ms", "per second", *times), rows)


def by_base(services):
    """Returns one table for each base, of the services that are compared with it."""
    bases = dict.fromkeys(each["base"] for each in services.values())
    tables = [
        timed({name: each for name, each in services.items() if each["base"] == base}, base)
        for base in bases
    ]
    return "\n".join(tables)


def gateway_instructions(measured):
    rows = [
        (name, f"{each['instructions']:,}", f"{each['ratio']:.2f} × {each['base']}")
        for name, each in measured["services"].items()
    ]
    text = "\n### Instructions of a request\n\n"
    text += "Counted with callgrind, in user space, of the whole service with one worker thread, over\n"
    text += f"{measured['requests']:,} requests in rounds of {measured['connections']} at once.\n\n"
    return text + table(("", "instructions", "ratio"), rows)
