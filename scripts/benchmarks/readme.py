"""The figures in the README, all of them ratios of the report."""

import re

from .plots import ratios
from .report import table
from .servers import ROOT

README = ROOT / "README.md"
START, END = "<!-- written by make bench -->\n", "<!-- until here -->\n"
FAST = re.compile(r"(A granted call costs )[\d.]+( times an `INCR`)")
SCRIPT = re.compile(r"(as a Lua\s+script costs\s+)\d+( times)")

NAMES = {
    "INCR": "INCR",
    "SET EX": "SET EX",
    "RATELIMIT.TB granted": "RATELIMIT.TB granted",
    "RATELIMIT.TB denied": "RATELIMIT.TB denied",
    "RATELIMIT.SW granted, 1,000 entries": "RATELIMIT.SW granted",
    "RATELIMIT.SW denied, 1,000 entries": "RATELIMIT.SW denied",
    "token bucket in Lua, granted": "token bucket in Lua, granted",
    "sliding window log in Lua, granted, 1,000 entries": "sliding window log in Lua, granted",
}


def replaced(pattern, text, figure):
    text, count = pattern.subn(rf"\g<1>{figure}\g<2>", text)
    if count != 1:
        raise SystemExit(f"README.md does not say {pattern.pattern!r} once")
    return text


def write(results):
    text = README.read_text()
    commands = ratios(results["instructions"]["commands"])
    text = replaced(FAST, text, f"{commands['RATELIMIT.TB granted']:.1f}")
    text = replaced(SCRIPT, text, f"{commands['token bucket in Lua, granted']:.0f}")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    README.write_text(before + START + block(results, commands) + END + after)


def block(results, commands):
    throughput = ratios(results["throughput"]["pipelines"]["16"])
    rows = [
        (shown, f"{commands[name]:.2f}", f"{throughput[shown]:.2f}")
        for name, shown in NAMES.items()
    ]
    head = ("command", "instructions, × INCR", "calls per second (pipeline 16), × INCR")
    services = ratios(results["gateway"]["connections"]["50"])
    served = [(name, f"{ratio:.2f}") for name, ratio in services.items()]
    return "\n".join(
        [
            "",
            table(head, rows),
            table(("service", "requests per second, × axum and one INCR"), served),
            "![Instructions of a call](docs/benchmarks/instructions.svg)",
            "",
            "",
        ]
    )
