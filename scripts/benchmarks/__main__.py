"""Measures, and writes the report: scripts/bench lists the parts."""

import json
import os
import resource
import signal
import sys
import time

from gateway.benches import instructions as gateway_instructions
from gateway.benches import throughput as gateway
from module.benches import instructions, memory, throughput, traffic

from . import machine, plots, readme, report, scale, targets
from .servers import ROOT, Failure

DOCS = ROOT / "docs" / "benchmarks"
SHORT = bool(os.environ.get("BENCH_SHORT"))
PARTS = {
    "instructions": instructions.measure,
    "throughput": lambda: throughput.measure(rounds=1 if SHORT else throughput.ROUNDS),
    "memory": memory.measure,
    "traffic": traffic.measure,
    "gateway-instructions": gateway_instructions.measure,
    "gateway": lambda: gateway.measure(1, 100_000) if SHORT else gateway.measure(),
}


def main(words):
    # The same as Ctrl-C: each process that this program started is stopped before the exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unknown = set(words) - set(PARTS) - {"scale", "report"}
    if unknown:
        sys.exit(f"bench: no such part: {' '.join(unknown)}")
    allow_connections()
    if words == ["report"]:
        write_anew()
    elif words == ["scale"]:
        scale.run(DOCS, SHORT)
        if not SHORT:
            write_anew()
    else:
        results = {"machine": machine.describe()} | measure(words or PARTS)
        if words or SHORT:
            print(json.dumps(results, indent=2))
        else:
            write(results)


def allow_connections():
    """Raises the limit of open files to the most that the system permits, also for children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measure(parts):
    results = {}
    for part in parts:
        started = time.monotonic()
        results[part] = PARTS[part]()
        print(f"{part}: measured in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def write_anew():
    """Writes all pages from the last measured figures."""
    if (DOCS / "scale.json").exists():
        scale.write(DOCS, json.loads((DOCS / "scale.json").read_text()))
    write(json.loads((DOCS / "report.json").read_text()))


def write(results):
    (DOCS / "report.json").write_text(json.dumps(results, indent=2) + "\n")
    growth = report.GROWTH if (DOCS / "scale.md").exists() else ""
    (DOCS / "report.md").write_text(report.written(results) + growth)
    (DOCS / "targets.md").write_text(targets.written(results))
    for name, text in plots.all_plots(results).items():
        (DOCS / name).write_text(text)
    readme.write(results)
    print(f"Written: {DOCS.relative_to(ROOT)} and README.md", file=sys.stderr)


try:
    main(sys.argv[1:])
except Failure as failure:
    sys.exit(f"bench: {failure}")
except KeyboardInterrupt:
    sys.exit(130)
