"""Measures the growth of costs, and writes scale.md, scale.json and plots."""

import json
import sys

from gateway.benches import scale as gateway
from module.benches import scale as module

from . import machine, plots
from .report import rates_with_cpu, table

INTRODUCTION = """# How cost grows

Written by `make bench-scale`; the figures are in [scale.json](scale.json), and how it was measured
is as in [the report](report.md). Servers share one core and the load has another, so that more of
them have no more processors: what counts is the processor time that they spend on a call, in µs.
Medians of three rounds.

## The machine

"""

# Name of a part: the label of its sizes, the sizes, and the function that measures one size.
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


def run(docs, short):
    """Measures only the smaller sizes, and prints the results, for a trial."""
    results = {"machine": machine.describe()}
    for part, (_, sizes, measure) in PARTS.items():
        results[part] = {}
        for size in sizes[:3] if short else sizes:
            results[part][str(size)] = measure(size)
            print(f"{part}: {size:,}", file=sys.stderr)
    if short:
        print(written(results))
    else:
        (docs / "scale.json").write_text(json.dumps(results, indent=2) + "\n")


def write(docs, results):
    (docs / "scale.md").write_text(written(results))
    for part, (title, _, _) in PARTS.items():
        (docs / f"scale-{part}.svg").write_text(plot(title, results[part]))


def written(results):
    text = INTRODUCTION + table(("", ""), results["machine"].items())
    for part, (title, _, _) in PARTS.items():
        text += f"\n## By {title}\n\n![Processor time of a call](scale-{part}.svg)\n\n"
        text += rates_with_cpu(title.split(",")[0], results[part])
    return text


def plot(title, sizes):
    names = next(iter(sizes.values()))
    series = {name: {size: each[name]["cpu_us"] for size, each in sizes.items()} for name in names}
    return plots.lines(f"Processor time of a call by {title}", title.split(",")[0], "µs", series)
