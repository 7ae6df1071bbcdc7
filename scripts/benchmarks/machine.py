"""The machine, the commit and the date of a measurement."""

import datetime
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from .servers import ENVOY, ROOT, THROTTLECRAB


def first_line(*words):
    ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    return next(iter((ran.stdout or ran.stderr).splitlines()), "").strip()


def field(path, pattern):
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1].strip() if found else "unknown"


def commit():
    """Returns the commit, with a mark if the sources differ from it."""
    sources = ["module", "gateway", "scripts", "Cargo.toml", "Cargo.lock"]
    changed = first_line("git", "status", "--porcelain", "--", *sources)
    described = first_line("git", "rev-parse", "--short=12", "HEAD")
    return f"{described} with changes" if changed else described


def version_of_throttlecrab():
    if not THROTTLECRAB.exists():
        return "not built"
    return first_line(THROTTLECRAB, "--version").split()[-1]


def version_of_envoy():
    if not ENVOY.exists():
        return "not installed"
    ran = subprocess.run([ENVOY, "--version"], capture_output=True, text=True, check=True)
    return re.search(r"/(\d[\d.]*)/", ran.stdout)[1]


def describe():
    redis = first_line(os.environ.get("REDIS_SERVER_BIN", "redis-server"), "--version")
    memory = int(field("/proc/meminfo", r"^MemTotal:\s*(\d+)"))
    return {
        "processor": field("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "cores": os.cpu_count(),
        "memory, GiB": round(memory / 2**20, 1),
        "busy cores before": round(os.getloadavg()[0], 1),
        "system": field("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "kernel": platform.release(),
        "redis-server": re.search(r"v=(\S+)", redis)[1],
        "allocator of redis-server": re.search(r"malloc=(\S+)", redis)[1],
        "valgrind": first_line("valgrind", "--version"),
        "wrk": first_line("wrk", "-v").split(" [")[0],
        "rustc": first_line("rustc", "--version"),
        "throttlecrab-server": version_of_throttlecrab(),
        "Envoy": version_of_envoy(),
        "python": platform.python_version(),
        "FastAPI": version("fastapi"),
        "uvicorn": version("uvicorn"),
        "redis-py": version("redis"),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }
