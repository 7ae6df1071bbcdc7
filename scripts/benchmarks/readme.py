"""The figures in the README: ratios of the report."""

import re

from .paired import ratio
from .plots import ratios, time_ratios
from .report import table

START, END = "<!-- written by make bench -->\n", "<!-- until here -->\n"
# A row of the comparison: this module, a Lua script, and two projects that are not measured here.
GRANT = re.compile(r"(\| instructions of a grant, `INCR` = 1 \| )[\d.]+ \| \d+( \|)")

NAMES = {
    "INCR": "INCR",
    "RATELIMIT.TB granted": "RATELIMIT.TB granted",
    "RATELIMIT.TB denied": "RATELIMIT.TB denied",
    "RATELIMIT.SW granted, 1,000 entries": "RATELIMIT.SW granted",
    "token bucket in Lua, granted": "token bucket in Lua, granted",
    "sliding window log in Lua, granted, 1,000 entries": "sliding window log in Lua, granted",
}
SERVICES = (
    "gateway over Redis, token bucket",
    "FastAPI and Lua, token bucket",
    "gateway with memory://",
    "throttlecrab in memory",
    "gateway over Redis, a flood of denials",
)


def replaced(pattern, text, figure):
    text, count = pattern.subn(rf"\g<1>{figure}\g<2>", text)
    if count != 1:
        raise SystemExit(f"README.md does not say {pattern.pattern!r} once")
    return text


def written(text, results):
    """Returns the text of the README with the figures of a run."""
    commands = ratios(results["instructions"]["commands"])
    module, script = commands["RATELIMIT.TB granted"], commands["token bucket in Lua, granted"]
    text = replaced(GRANT, text, f"{module:.1f} | {script:.0f}")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    return before + START + block(results, commands) + END + after


def block(results, commands):
    times = time_ratios(results["throughput"]["pipelines"]["16"])
    rows = [
        (shown, f"{commands[name]:.2f}", f"{times[shown]:.2f}") for name, shown in NAMES.items()
    ]
    head = ("command", "instructions, × INCR", "processor time (pipeline 16), × INCR")
    services = results["gateway"]["connections"]["50"]
    served = [
        (name, f"{ratio(services[name]):.2f}", services[name]["base"])
        for name in SERVICES
        if name in services
    ]
    return "\n".join(
        [
            "",
            table(head, rows),
            table(("service, 50 connections", "processor time of a request", "× that of"), served),
            "",
        ]
    )
