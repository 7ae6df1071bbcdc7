"""The measured processes: each has a free port of the loopback and a core, and is stopped by its
process id at the end of a measurement, also after an error."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "target" / "release"
MODULE = BUILT / "libratelimit.so"
PROGRAM = os.environ.get("REDIS_SERVER_BIN", "redis-server")
THROTTLECRAB = ROOT / "target" / "tools" / "bin" / "throttlecrab-server"
ENVOY = ROOT / "target" / "proxies" / "envoy" / "server"

# Servers and load have a core each, on machines with two cores or more.
SERVER_CORE, LOAD_CORE = (0, 1) if (os.cpu_count() or 1) > 1 else (None, None)

# The clock of the processor time of a process: its number has these bits beside the process id.
PROCESS_CLOCK = 2


class Failure(Exception):
    """The error of a measurement that did not measure its object."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pinned(core, words):
    return words if core is None else ["taskset", "--cpu-list", str(core), *words]


class Process:
    """A server in a directory of its own, which has the texts of `files` by their names. The server
    does not receive the Ctrl-C of the terminal."""

    def __init__(self, name, words, core=None, environment=None, files=None):
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix="ratelimit-bench-"))
        for file, text in (files or {}).items():
            (self.directory / file).write_text(text)
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                pinned(core, [str(word) for word in words]),
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self):
        return self.process.pid

    def wait_for(self, ready, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"{self.name} has ended:\n{self.log.read_text(errors='replace')}")
            if ready():
                return self
            time.sleep(0.05)
        raise Failure(f"{self.name} is not ready after {seconds} s")

    def accepts(self, port):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            return False

    def resident_bytes(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.split("VmRSS:")[1].split()[0])

    def cpu_seconds(self):
        """Returns the processor time of all threads, which the system counts in nanoseconds."""
        return time.clock_gettime(~self.pid << 3 | PROCESS_CLOCK)

    def user_seconds(self):
        """Returns the part in user space (utime), which the system counts in ticks of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Redis(Process):
    """A redis-server with the module and, by default, without snapshots."""

    def __init__(self, *settings, core=SERVER_CORE, prefix=(), program=PROGRAM):
        self.port = free_port()
        words = [program, "--port", self.port, "--bind", "127.0.0.1", "--save", ""]
        words += ["--enable-debug-command", "yes", *settings]
        words += ["--loadmodule", MODULE, "sliding-window-max-limit", 10_000_000]
        super().__init__("redis-server", [*prefix, *words], core)
        self.url = f"redis://127.0.0.1:{self.port}/"
        self.client = redis.Redis(port=self.port, socket_timeout=300)
        try:
            self.wait_for(self.answers)
            self.act_as_a_server()
        except BaseException:
            self.__exit__()
            raise

    def act_as_a_server(self):
        """Lets the client make the calls that servers make of each other, which Redis 8 refuses
        to other clients."""
        with suppress(redis.ResponseError):
            self.client.execute_command("DEBUG", "MARK-INTERNAL-CLIENT")
        # A server that does not know the word has counted an error.
        self.client.config_resetstat()

    def answers(self):
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def pipeline(self, commands, batch=1_000):
        """Returns the replies to many commands, which it sends in batches."""
        replies = []
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
            if len(pipeline) == batch:
                replies += pipeline.execute()
        return replies + pipeline.execute()

    def load_script(self, path):
        return self.client.script_load((ROOT / path).read_text())
