"""Measures, and writes the report: scripts/bench lists the parts."""

import json
import os
import resource
import signal
import sys
import time

from gateway.benches import instructions as gateway_instructions
from gateway.benches import proxies
from gateway.benches import throughput as gateway
from module.benches import instructions, memory, throughput, traffic

from . import machine, matching, plots, readme, report, scale, targets, trial
from .servers import ROOT, Failure

SHORT = bool(os.environ.get("BENCH_SHORT"))
# The directory of the pages. A trial writes pages of its own.
DOCS = ROOT / "target" / "benchmarks" if SHORT else ROOT / "docs" / "benchmarks"
README = ROOT / "README.md"
PARTS = {
    "instructions": instructions.measure,
    "throughput": throughput.measure,
    "memory": memory.measure,
    "traffic": traffic.measure,
    "gateway-instructions": gateway_instructions.measure,
    "policies": matching.measure,
    "gateway": gateway.measure,
    "proxies": proxies.measure,
}


def main(words):
    # The same as Ctrl-C: each process that this program started is stopped before the exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unknown = set(words) - set(PARTS) - {"scale", "report"}
    if unknown:
        sys.exit(f"bench: no such part: {' '.join(unknown)}")
    allow_connections()
    if SHORT:
        trial.shorten()
    DOCS.mkdir(parents=True, exist_ok=True)
    if words == ["report"]:
        write(json.loads((DOCS / "report.json").read_text()))
        if (DOCS / "scale.json").exists():
            scale.write(DOCS, json.loads((DOCS / "scale.json").read_text()))
    elif words == ["scale"]:
        scale.write(DOCS, scale.measure())
        link_growth()
    else:
        results = {"machine": machine.describe()} | measure(words or PARTS)
        if words:
            print(json.dumps(results, indent=2))
        else:
            write(results)
    if not words or words[0] in ("report", "scale"):
        print(f"Written: {DOCS.relative_to(ROOT)}", file=sys.stderr)


def allow_connections():
    """Raises the limit of open files to the most that the system permits, also for children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measure(parts):
    results = {}
    for part in parts:
        started = time.monotonic()
        results[part] = measure_again_after_failure(part)
        print(f"{part}: measured in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return results


def measure_again_after_failure(part):
    """Measures a part. A machine that stalls can spoil a part, and does so rarely twice."""
    try:
        return PARTS[part]()
    except Failure as failure:
        print(f"{part}: measured again, since it failed: {failure}", file=sys.stderr)
        return PARTS[part]()


def write(results):
    """Writes the report, its plots and the targets, and the figures of the README."""
    (DOCS / "report.json").write_text(json.dumps(results, indent=2) + "\n")
    (DOCS / "report.md").write_text(report.written(results))
    link_growth()
    (DOCS / "targets.md").write_text(targets.written(results))
    for name, text in plots.all_plots(results).items():
        (DOCS / name).write_text(text)
    page = DOCS / "README.md" if SHORT else README
    page.write_text(readme.written(README.read_text(), results))


def link_growth():
    """Adds a link to the page about growth to the end of the report, where both exist."""
    page = DOCS / "report.md"
    if not page.exists() or not (DOCS / "scale.md").exists():
        return
    text = page.read_text()
    if report.GROWTH not in text:
        page.write_text(text + report.GROWTH)


try:
    main(sys.argv[1:])
except Failure as failure:
    sys.exit(f"bench: {failure}")
except KeyboardInterrupt:
    sys.exit(130)
