"""The time to judge a request among 1,000 policies and 10,000 overrides."""

import re
import subprocess

from .servers import ROOT

# Nanoseconds that a judgement may take.
BOUND = 2_000


def measure():
    """Returns the nanoseconds of each kind of request."""
    command = ["cargo", "bench", "--locked", "--package", "policies", "--bench", "matching"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    times = re.findall(r"^(.*): (\d+) ns$", done.stdout, re.MULTILINE)
    if not times:
        raise RuntimeError(f"the bench of matching printed no time:\n{done.stdout}")
    return {what: int(nanoseconds) for what, nanoseconds in times}
