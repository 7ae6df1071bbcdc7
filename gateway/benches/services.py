"""Services that are compared: each is a process of its own on the core of the servers."""

import json
import sys
import urllib.request
from functools import cached_property

from scripts.benchmarks.servers import (
    BUILT,
    ROOT,
    SERVER_CORE,
    THROTTLECRAB,
    Failure,
    Process,
    free_port,
)

from .load import words_of_wrk
from .rounds import send_rounds

CHECK = "/rate-limit/check"
SCRIPTS = ROOT / "module" / "benches"
IDENTIFIERS = 10_000

BUCKET = {
    "identifier": "user_%d",
    "algorithm": "token_bucket",
    "limit": 1_000_000,
    "window_seconds": 3_600,
}
LOG = BUCKET | {"algorithm": "sliding_window"}
# Requests of the same users, whose limits are in files of policies.
POLICY = {"attributes": {"user": "user_%d"}}
POLICIES = ROOT / "gateway" / "benches" / "policies"
# All requests are for one identifier, which is denied from its second request on.
FLOOD = BUCKET | {"identifier": "flood", "limit": 1}


def http_request(method, path, headers, body=""):
    """Returns the bytes of a request."""
    if body:
        headers = {**headers, "Content-Length": len(body)}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body]).encode()


class Service(Process):
    """A service, with the body of its requests and the name of the service it is compared with."""

    path = CHECK
    identifiers = IDENTIFIERS

    def __init__(self, name, base, port, words, body=BUCKET, environment=None, **options):
        self.base = base
        self.port = port
        self.body = json.dumps(body, separators=(",", ":"))
        options = {"core": SERVER_CORE, "prefix": (), "threads": None, "files": {}} | options
        environment = dict(environment or {})
        if options["threads"]:
            environment["TOKIO_WORKER_THREADS"] = str(options["threads"])
        words = [*options["prefix"], *words]
        super().__init__(name, words, options["core"], environment, options["files"])
        try:
            self.wait_for(self.is_ready)
        except BaseException:
            self.__exit__()
            raise

    def is_ready(self):
        return self.accepts(self.port)

    def request(self, number):
        """Returns the request of an identifier."""
        headers = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json"}
        return http_request("POST", self.path, headers, self.body.replace("%d", str(number)))

    @cached_property
    def requests(self):
        """The file of the requests of all identifiers."""
        file = self.directory / "requests"
        requests = map(self.request, range(self.identifiers))
        file.write_bytes(b"".join(b"%d\n%b" % (len(each), each) for each in requests))
        return file

    def words_of_load(self, connections, seconds):
        """Returns the command that sends requests, and prints what it has measured."""
        return words_of_wrk(self.port, self.requests, connections, seconds)

    def send_rounds(self, connections, rounds):
        """Sends rounds of one request over each connection."""
        send_rounds(self, connections, rounds)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def verify(self, requests):
        """Checks that a request is still granted."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{self.path}",
            self.body.replace("%d", "1").encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            if json.load(answer)["allowed"] is not True:
                raise Failure(f"{self.name}: a check was denied")


class Gateway(Service):
    def __init__(self, name, base, redis_url, body=BUCKET, settings=None, **options):
        self.algorithm = body.get("algorithm", "token_bucket")
        self.outcome = "denied" if body is FLOOD else "allowed"
        self.source = "local" if redis_url == "memory://" else "redis"
        port = free_port()
        environment = {"HOST": "127.0.0.1", "PORT": str(port), "REDIS_URL": redis_url}
        # A machine that stalls for a moment must not cause timeouts of Redis.
        environment |= {"LOG_LEVEL": "WARNING", "REDIS_TIMEOUT_MS": "5000", **(settings or {})}
        words = [BUILT / "ratelimit-gateway"]
        super().__init__(name, base, port, words, body, environment, **options)

    def is_ready(self):
        try:
            return self.get("/health/ready")
        except OSError:
            return False

    def verify(self, requests):
        """Checks that this gateway has decided all requests in its store, and nearly all of them
        with the outcome that is measured."""
        counts = {}
        for line in self.get("/metrics").splitlines():
            if line.startswith("ratelimit_decisions_total{"):
                labels, count = line.rsplit(" ", 1)
                counts[labels] = int(count)
        decided = sum(counts.values())
        labels = [f'algorithm="{self.algorithm}"', f'outcome="{self.outcome}"']
        if self.outcome == "allowed":
            labels.append(f'source="{self.source}"')
        wanted = sum(n for text, n in counts.items() if all(label in text for label in labels))
        if wanted < max(requests, 0.999 * decided):
            raise Failure(f"{self.name} has decided otherwise: {counts}")


class Throttlecrab(Service):
    path = "/throttle"

    def __init__(self, name, base):
        port = free_port()
        words = [THROTTLECRAB, "--http", "--http-host", "127.0.0.1", "--http-port", port]
        words += ["--log-level", "warn"]
        limit = {"max_burst": 1_000_000, "count_per_period": 1_000_000, "period": 3_600}
        super().__init__(name, base, port, words, {"key": "user_%d"} | limit)


def baseline(name, base, *redis_url, **options):
    port = free_port()
    words = [BUILT / "ratelimit-baseline", port, *redis_url]
    return Service(name, base, port, words, **options)


def original(name, base, body, redis_url):
    port = free_port()
    words = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT / "gateway/benches/original"]
    words += ["--host", "127.0.0.1", "--port", port, "--no-access-log", "app:app"]
    environment = {"REDIS_URL": redis_url, "SCRIPTS": str(SCRIPTS)}
    return Service(name, base, port, words, body, environment)
