"""Services compared over HTTP: each is a process of its own on the core of the servers."""

import json
import sys
import urllib.request

from scripts.benchmarks.servers import BUILT, ROOT, SERVER_CORE, Failure, Process, free_port

CHECK = "/rate-limit/check"
SCRIPTS = ROOT / "module" / "benches"


class Service(Process):
    def __init__(self, name, algorithm, words, port, environment=None):
        self.port = port
        self.algorithm = algorithm
        super().__init__(name, words, SERVER_CORE, environment)
        try:
            self.wait_for(self.is_ready)
        except BaseException:
            self.__exit__()
            raise

    def is_ready(self):
        return self.accepts(self.port)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def check(self, identifier):
        check = {"identifier": identifier, "algorithm": self.algorithm}
        body = json.dumps({**check, "limit": 1_000_000, "window_seconds": 3_600}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{CHECK}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def verify(self, requests):
        """Checks that a request is still granted."""
        if self.check("user_1")["allowed"] is not True:
            raise Failure(f"{self.name}: a check was denied")


class Gateway(Service):
    def __init__(self, name, algorithm, redis_url, **settings):
        port = free_port()
        environment = {"HOST": "127.0.0.1", "PORT": str(port), "REDIS_URL": redis_url}
        # A machine that stalls for a moment must not cause timeouts of Redis.
        environment |= {"LOG_LEVEL": "WARNING", "REDIS_TIMEOUT_MS": "5000"}
        self.source = "local" if redis_url == "memory://" else "redis"
        super().__init__(
            name,
            algorithm,
            [BUILT / "ratelimit-gateway"],
            port,
            {**environment, **settings},
        )

    def is_ready(self):
        try:
            return self.get("/health/ready")
        except OSError:
            return False

    def verify(self, requests):
        """Checks that every request was granted by the store of this gateway."""
        counts = [
            line
            for line in self.get("/metrics").splitlines()
            if line.startswith("ratelimit_decisions_total{") and not line.endswith(" 0")
        ]
        wanted = (f'algorithm="{self.algorithm}"', 'outcome="allowed"', f'source="{self.source}"')
        if len(counts) != 1 or any(label not in counts[0] for label in wanted):
            raise Failure(f"{self.name} has decided otherwise: {counts}")
        if int(counts[0].split()[-1]) < requests:
            raise Failure(f"{self.name} has decided fewer than {requests}: {counts}")


def baseline(name, *redis_url):
    port = free_port()
    words = [BUILT / "ratelimit-baseline", port, *redis_url]
    return Service(name, "token_bucket", words, port)


def original(name, algorithm, redis_url):
    port = free_port()
    words = [sys.executable, "-m", "uvicorn", "--app-dir", ROOT / "gateway/benches/original"]
    words += ["--host", "127.0.0.1", "--port", port, "--no-access-log", "app:app"]
    environment = {"REDIS_URL": redis_url, "SCRIPTS": str(SCRIPTS)}
    return Service(name, algorithm, words, port, environment)
