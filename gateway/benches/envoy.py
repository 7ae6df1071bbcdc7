"""What the rate limit service adds to the latency of requests through Envoy."""

import json
import statistics
from contextlib import ExitStack
from functools import partial

from scripts.benchmarks.paired import rounds_of, spread
from scripts.benchmarks.servers import ENVOY, LOAD_CORE, Redis, free_port

from . import throughput
from .calls import CalledGateway
from .load import load
from .services import Service, baseline, http_request
from .throughput import ALONE

EXTENSIONS = "type.googleapis.com/envoy.extensions"
UPSTREAM = "upstream"
LIMITS = "ratelimit"
PLAIN = "Envoy alone"
LIMITED = "Envoy and the rate limit service over Redis"
# So few that neither the proxy nor the service has a queue.
CONNECTIONS = 4
SECONDS = 2
# No stall of the machine makes a call fail.
PATIENCE = "5s"


class Envoy(Service):
    """An Envoy in front of a service, which asks a gateway about each request, if there is one."""

    def __init__(self, name, upstream, gateway=None):
        self.gateway = gateway
        port = free_port()
        configuration = configured(port, upstream.port, gateway and gateway.grpc_port)
        words = [ENVOY, "--disable-hot-restart", "--concurrency", 1, "--log-level", "warning"]
        words += ["--config-path", "envoy.json"]
        files = {"envoy.json": json.dumps(configuration)}
        super().__init__(name, PLAIN, port, words, files=files)

    def is_ready(self):
        try:
            super().verify(1)
        except OSError:
            return False
        return True

    def request(self, number):
        headers = {
            "Host": f"127.0.0.1:{self.port}",
            "Content-Type": "application/json",
            "X-User": f"user_{number}",
        }
        return http_request("POST", self.path, headers, self.body.replace("%d", str(number)))

    def verify(self, requests):
        """Checks that requests still pass, and that the gateway has decided all of them."""
        super().verify(requests)
        if self.gateway:
            self.gateway.verify(requests)


def configured(port, upstream_port, grpc_port):
    """Returns the configuration, with the filter of the rate limit service if that has a port."""
    route = {"cluster": UPSTREAM}
    filters = [extension("envoy.filters.http.router", "filters.http.router.v3.Router")]
    clusters = [cluster(UPSTREAM, upstream_port)]
    if grpc_port:
        user = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
        route["rate_limits"] = [{"actions": [user]}]
        filters.insert(0, limiter())
        clusters.append(cluster(LIMITS, grpc_port) | over_http2())
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        route_config={"virtual_hosts": [host]},
        http_filters=filters,
    )
    listener = {"name": "http", "address": address(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def limiter():
    return extension(
        "envoy.filters.http.ratelimit",
        "filters.http.ratelimit.v3.RateLimit",
        domain="bench",
        timeout=PATIENCE,
        failure_mode_deny=True,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        rate_limit_service={
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": LIMITS}},
        },
    )


def extension(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}.{kind}", **fields}}


def cluster(name, port):
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    return {
        "name": name,
        "connect_timeout": PATIENCE,
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def over_http2():
    kind = "upstreams.http.v3.HttpProtocolOptions"
    options = {"explicit_http_config": {"http2_protocol_options": {}}}
    name = "typed_extension_protocol_options"
    return {name: {f"envoy.extensions.{kind}": {"@type": f"{EXTENSIONS}.{kind}", **options}}}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def measure():
    """Returns the latencies with the service and without, and what the service adds."""
    with ExitStack() as stack:
        url = stack.enter_context(Redis(core=LOAD_CORE)).url
        upstream = stack.enter_context(baseline(ALONE, ALONE, core=LOAD_CORE))
        gateway = stack.enter_context(CalledGateway(LIMITED, PLAIN, url, core=LOAD_CORE))
        plain = stack.enter_context(Envoy(PLAIN, upstream))
        limited = stack.enter_context(Envoy(LIMITED, upstream, gateway))
        for envoy in (plain, limited):
            load(envoy, CONNECTIONS, 1)
        runs = {envoy.name: partial(measure_one, envoy) for envoy in (plain, limited)}
        return summarized(rounds_of(runs, throughput.ROUNDS))


def measure_one(envoy):
    gateway = envoy.gateway
    before = gateway.cpu_seconds() if gateway else 0
    run = load(envoy, CONNECTIONS, SECONDS)
    after = gateway.cpu_seconds() if gateway else 0
    requests = run.pop("requests")
    envoy.verify(requests)
    return {**run, "gateway_us": (after - before) / requests * 1e6}


def summarized(rounds):
    """Returns the medians of each field, and the differences of latencies of the same round."""
    return {
        "connections": CONNECTIONS,
        "rounds": len(rounds),
        "seconds": SECONDS,
        "services": {
            name: {
                field: statistics.median(each[name][field] for each in rounds)
                for field in rounds[0][name]
            }
            for name in (PLAIN, LIMITED)
        },
        "added": {
            field: spread(each[LIMITED][field] - each[PLAIN][field] for each in rounds)
            for field in ("p50_ms", "p99_ms")
        },
    }
