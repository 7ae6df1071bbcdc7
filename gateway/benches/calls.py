"""ShouldRateLimit over gRPC: the gateway, beside the least that such a service can be."""

import subprocess

from scripts.benchmarks.servers import BUILT, LOAD_CORE, Failure, free_port, pinned

from .services import POLICIES, POLICY, Gateway, Service

BARE = "tonic and one INCR"
CALLED = "gateway over Redis, ShouldRateLimit"
LOAD = BUILT / "ratelimit-grpc-load"


class OverGrpc:
    """Calls at the port `grpc_port`, in place of requests over HTTP. Each answer must be OK."""

    def words_of_load(self, connections, seconds):
        words = pinned(LOAD_CORE, [LOAD, self.grpc_port, connections, "seconds", seconds])
        return list(map(str, words))

    def send_rounds(self, connections, rounds):
        words = map(str, [LOAD, self.grpc_port, connections, "rounds", rounds])
        if subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Failure(f"{self.name} has not answered each call")


class BareService(OverGrpc, Service):
    def __init__(self, name, base, redis_url, **options):
        self.grpc_port = free_port()
        words = [BUILT / "ratelimit-baseline-grpc", self.grpc_port, redis_url]
        super().__init__(name, base, self.grpc_port, words, **options)

    def verify(self, requests):
        """The load has read the answers."""


class CalledGateway(OverGrpc, Gateway):
    """A gateway with a policy for the rate limit service."""

    def __init__(self, name, base, redis_url, **options):
        self.grpc_port = free_port()
        file = POLICIES / "rate-limit-service.yaml"
        settings = {"GRPC_PORT": str(self.grpc_port), "POLICIES_FILE": str(file)}
        super().__init__(name, base, redis_url, POLICY, settings, **options)

    def is_ready(self):
        return super().is_ready() and self.accepts(self.grpc_port)


def starts(url, **options):
    """Returns the starts of the services."""
    return [
        lambda: BareService(BARE, BARE, url, **options),
        lambda: CalledGateway(CALLED, BARE, url, **options),
    ]
