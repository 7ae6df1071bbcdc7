"""Measures the growth of costs, and writes scale.md, scale.json and plots."""

import json
import sys
import time
from contextlib import ExitStack

from gateway.benches import scale as gateway
from module.benches import scale as module

from . import growth, machine, plots
from .report import rates_with_cpu, table

ROUNDS = 5

INTRODUCTION = """# How cost grows

Written by `make bench-scale`; the figures are in [scale.json](scale.json), and the methods are those of
[the report](report.md). Servers share one core and the load has another, so that more of them have no
more processors: what counts is the processor time that they spend on a call, in µs. Medians of {rounds}
rounds, each of which has every size once, in alternating order.

## The machine

"""

MODEL = """
## The model

A cost is flat when no size costs more than {flat} × the smallest one. The growth is the ratio of the
largest size to the smallest one, as the median of the rounds with its range; the slope belongs to a
line over the logarithm of the size, and the error is what that line leaves (root mean square).

"""

MILLION = """
## A million decisions a second

A decision is independent of all others, except those of its key. So gateways and nodes of a cluster
add up while their processor time for a call is flat (above), and a rate takes this many processors
that are never idle. Plan for half of that load: twice the number.

"""

# Name of a part: the label of its sizes, the sizes, and the function that prepares the runs.
PARTS = {
    "keys": ("keys, pipeline 16", module.KEYS, module.by_keys),
    "limits": ("limit, pipeline 16", module.LIMITS, module.by_limit),
    "connections": ("connections to Redis, pipeline 1", module.CONNECTIONS, module.by_connections),
    "nodes": ("nodes of a cluster, pipeline 16", module.NODES, module.by_nodes),
    "gateway-connections": (
        "connections to a gateway",
        gateway.CONNECTIONS,
        gateway.by_connections,
    ),
    "gateways": ("gateways over one Redis", gateway.GATEWAYS, gateway.by_gateways),
}

# Label of a row: the part, the size, the name of the call, and the field of its cost.
LOADS = {
    "`RATELIMIT.TB` in a cluster, pipeline 16: Redis": (
        "nodes",
        str(module.NODES[-1]),
        "RATELIMIT.TB granted",
        "cpu_us",
    ),
    "`RATELIMIT.TB` over 50 connections, one call at a time: Redis": (
        "connections",
        "50",
        "RATELIMIT.TB granted",
        "cpu_us",
    ),
    "over HTTP, 200 connections: gateways": (
        "gateway-connections",
        "200",
        gateway.OURS,
        "cpu_us",
    ),
    "over HTTP, 200 connections: Redis": (
        "gateway-connections",
        "200",
        gateway.OURS,
        "redis_cpu_us",
    ),
}


def measure():
    results = {"machine": machine.describe(), "rounds": ROUNDS, "parts": {}}
    for part, (_, sizes, prepare) in PARTS.items():
        started = time.monotonic()
        with ExitStack() as stack:
            runs = prepare(stack, sizes)
            results["parts"][part] = growth.summarize(growth.rounds_of(runs, ROUNDS))
        print(f"{part}: measured in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def write(docs, results):
    """Writes the page, its figures and its plots."""
    (docs / "scale.json").write_text(json.dumps(results, indent=2) + "\n")
    (docs / "scale.md").write_text(written(results))
    for part, (title, _, _) in PARTS.items():
        (docs / f"scale-{part}.svg").write_text(plot(title, results["parts"][part]["sizes"]))


def written(results):
    text = INTRODUCTION.format(rounds=results["rounds"])
    text += table(("", ""), results["machine"].items())
    text += MODEL.format(flat=growth.FLAT) + model(results["parts"])
    text += MILLION + million(results["parts"])
    for part, (title, _, _) in PARTS.items():
        text += f"\n## By {title}\n\n![Processor time of a call](scale-{part}.svg)\n\n"
        text += rates_with_cpu(title.split(",")[0], results["parts"][part]["sizes"])
    return text


def model(parts):
    rows = [
        (
            f"{title}: {first:,} to {last:,}",
            name,
            f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})",
            f"{each['per_tenfold']:+.1%}",
            f"{each['error']:.1%}",
            growth.verdict(each),
        )
        for part, (title, _, _) in PARTS.items()
        for first, last in [ends(parts[part]["sizes"])]
        for name, each in parts[part]["growth"].items()
    ]
    head = ("from", "call", "growth, ×", "slope for ten times the size", "error", "")
    return table(head, rows)


def ends(sizes):
    first, *_, last = sizes
    return int(first), int(last)


def million(parts):
    """Returns the table of the processors, without loads that a trial has not measured."""
    rows = []
    for label, (part, size, name, field) in LOADS.items():
        measured = parts[part]["sizes"].get(size)
        if measured:
            cost = measured[name][field]
            rows.append((label, f"{cost:.2f}", f"{growth.processors(cost):.1f}"))
    return table(("", "processor time of a call, µs", "processors"), rows)


def plot(title, sizes):
    names = next(iter(sizes.values()))
    series = {
        name: {size: each[name]["cpu_us"] for size, each in sizes.items() if name in each}
        for name in names
    }
    return plots.lines(f"Processor time of a call by {title}", title.split(",")[0], "µs", series)
