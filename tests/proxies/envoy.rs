//! The real Envoy, with the configurations of examples/envoy and with some of its other fields.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::upstream::Upstream;
use crate::harness::{
    Authority, Gateway, GatewayBuilder, Process, Response, Server, eventually, free_port,
    http_exchange_from, http_request, repository,
};

/// The last number of the address of a client, which is none of the trusted proxies.
const CLIENT: u8 = 2;

/// A gateway with policies that listens for gRPC, and its Redis.
pub(super) struct Limits {
    gateway: Gateway,
    server: Server,
    grpc: u16,
    #[expect(dead_code, reason = "it is deleted when this is dropped")]
    directory: TempDir,
}

impl Limits {
    fn start(policies: &str, settings: &[(&str, &str)]) -> Self {
        Self::with(policies, |mut gateway| {
            for (name, value) in settings {
                gateway = gateway.env(name, value);
            }
            gateway
        })
    }

    fn with(policies: &str, configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policies.yaml");
        fs::write(&file, policies).unwrap();
        let (server, grpc) = (Server::start(), free_port());
        let gateway = Gateway::builder()
            .redis(&server)
            .env("POLICIES_FILE", &file.to_string_lossy())
            .env("GRPC_PORT", &grpc.to_string())
            .env("TRUSTED_PROXIES", "127.0.0.1");
        Self { gateway: configure(gateway).start(), server, grpc, directory }
    }

    /// Starts a gateway with the policies of the examples.
    pub(super) fn of_examples(settings: &[(&str, &str)]) -> Self {
        Self::start(&example("policies.yaml"), settings)
    }
}

/// An Envoy in front of a service.
pub(super) struct Envoy {
    port: u16,
    pub(super) upstream: Upstream,
    process: Process,
    #[expect(dead_code, reason = "it is deleted when this is dropped")]
    directory: TempDir,
}

impl Envoy {
    /// Starts Envoy with a configuration of the examples, whose addresses are replaced.
    pub(super) fn start(configuration: &str, limits: &Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, upstream) = (free_port(), Upstream::start());
        let http = limits.gateway.address().port();
        let service = upstream.address().port();
        let ports = [("8080", port), ("9000", service), ("8001", limits.grpc), ("8000", http)];
        let mut text = configuration.to_owned();
        for (example, port) in ports {
            text = text.replace(&format!("port_value: {example}"), &format!("port_value: {port}"));
        }
        let file = directory.path().join("envoy.yaml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let process = Process::start(command.arg("-c").arg(&file), &directory.path().join("log"));
        eventually("Envoy listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        Self { port, upstream, process, directory }
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[])
    }

    pub(super) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send(&http_request(method, path, headers, ""))
    }

    pub(super) fn send(&self, request: &[u8]) -> Response {
        self.send_from(CLIENT, request)
    }

    /// Returns the answer to a client at 127.0.0.`client`.
    pub(super) fn send_from(&self, client: u8, request: &[u8]) -> Response {
        http_exchange_from(Ipv4Addr::new(127, 0, 0, client), self.address(), request)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()))
    }

    /// Returns the status of the answer to a client at 127.0.0.`client`, which forges its address.
    fn status_from(&self, client: u8) -> u16 {
        let forged = [("X-Forwarded-For", "203.0.113.99")];
        self.send_from(client, &http_request("GET", "/", &forged, "")).status
    }
}

/// Returns the program that scripts/install has taken out of its package.
fn program() -> PathBuf {
    repository().join("target/proxies/envoy/server")
}

pub(super) fn example(file: &str) -> String {
    fs::read_to_string(repository().join("examples/envoy").join(file)).unwrap()
}

/// Returns a configuration that lets requests pass when the gateway has no decision.
pub(super) fn failing_open(text: &str) -> String {
    text.replace("failure_mode_allow: false", "failure_mode_allow: true")
        .replace("failure_mode_deny: true", "failure_mode_deny: false")
}

/// Returns the configuration of the rate limit service with these actions for all routes, and with this
/// field of the filter. Envoy ignores `hits_addend` in a route.
fn rate_limit(rate_limits: &str, field: &str) -> String {
    let text = example("rate-limit.yaml");
    let place = "                      failure_mode_deny: true\n";
    assert!(text.contains(place));
    let fields = format!(
        "                      {field}\n                      rate_limits: {rate_limits}\n"
    );
    text.replace(place, &fields)
}

/// Returns the number behind the first `=` or before the first `,` of a header.
fn number(answer: &Response, header: &str) -> u64 {
    let value = answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}"));
    value.split([',', ';']).next().unwrap().trim().parse().unwrap()
}

#[test]
#[ignore = "make test-proxies"]
fn the_rate_limit_service_limits_each_client() {
    let limits = Limits::of_examples(&[]);
    let envoy = Envoy::start(&example("rate-limit.yaml"), &limits);
    for left in (0..10).rev() {
        // A client cannot choose its address.
        let forged = format!("203.0.113.{left}");
        let answer = envoy.request("GET", "/", &[("X-Forwarded-For", &forged)]);
        assert_eq!(answer.status, 200, "{answer:?}");
        // Envoy writes these from the status, and the others are ours.
        assert_eq!(answer.header("x-ratelimit-limit"), Some("10, 10;w=60;name=\"rate\""));
        assert_eq!(number(&answer, "x-ratelimit-remaining"), left);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"rate\";q=10;w=60"));
        let state = answer.header("ratelimit").unwrap();
        assert!(state.starts_with(&format!("\"rate\";r={left};t=")), "{state}");
        assert_eq!(answer.header("retry-after"), None);
    }
    let denied = envoy.get("/");
    assert_eq!(denied.status, 429, "{denied:?}");
    assert_eq!(number(&denied, "x-ratelimit-remaining"), 0);
    let wait = number(&denied, "retry-after");
    assert!((1..=60).contains(&wait), "{denied:?}");
    assert_eq!(number(&denied, "x-ratelimit-reset"), wait);
    assert_eq!(envoy.upstream.requests(), 10);
    // Another client has a quota of its own.
    assert_eq!((envoy.status_from(3), envoy.status_from(CLIENT)), (200, 429));
}

#[test]
#[ignore = "make test-proxies"]
fn all_descriptors_of_a_request_take_or_none() {
    let limits = Limits::of_examples(&[]);
    let envoy = Envoy::start(&example("rate-limit.yaml"), &limits);
    for _ in 0..5 {
        assert_eq!(envoy.request("POST", "/login", &[]).status, 200);
    }
    for _ in 0..3 {
        let denied = envoy.request("POST", "/login", &[]);
        assert_eq!(denied.status, 429);
        // Quarters of an hour are no unit of Envoy, so that the window is not in its header.
        assert_eq!(denied.header("x-ratelimit-limit"), Some("5, 10;w=60;name=\"rate\""));
    }
    // The denials took nothing of the other limit.
    let answer = envoy.get("/");
    assert_eq!((answer.status, number(&answer, "x-ratelimit-remaining")), (200, 4));
}

const USERS: &str = r#"
version: 1
policies:
  - name: trial
    match: {domain: shop, user: {exists: true}}
    by: [user]
    limits: [{name: tries, limit: 3, per: 365d}]
    entry: [rls]
    shadow: true
  - name: users
    match: {domain: shop, user: {exists: true}}
    by: [user]
    limits: [{name: rate, limit: 10, per: 365d, algorithm: sliding_window}]
    entry: [rls]
"#;

const BY_USER: &str = "actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]";

#[test]
#[ignore = "make test-proxies"]
fn hits_are_added_and_given_back() {
    let limits = Limits::start(USERS, &[]);
    let three = format!("[{{{BY_USER}, hits_addend: {{number: 3}}}}]");
    let envoy = Envoy::start(&rate_limit(&three, "failure_mode_deny: true"), &limits);
    let get = |user: &str| envoy.request("GET", "/", &[("X-User", user)]);
    for left in [7, 4, 1] {
        assert_eq!(number(&get("ann"), "x-ratelimit-remaining"), left);
    }
    assert_eq!(get("ann").status, 429);
    // A trial prevents nothing and is counted.
    let trial = "ratelimit_policy_decisions_total{policy=\"trial\",plan=\"\",limit=\"tries\",\
                 outcome=\"shadow_denied\"}";
    eventually("the trial is counted", || {
        let page = limits.gateway.get_as_operator("/metrics").body;
        page.contains(trial).then_some(())
    });

    // Each request takes six units, and gives them back when its answer has been sent.
    let lent = format!(
        "[{{{BY_USER}, hits_addend: {{number: 6}}}}, {{{BY_USER}, hits_addend: {{number: 6, \
         is_negative_hits: true}}, apply_on_stream_done: true}}]"
    );
    let envoy = Envoy::start(&rate_limit(&lent, "failure_mode_deny: true"), &limits);
    for _ in 0..5 {
        eventually("the units are there again", || {
            let answer = envoy.request("GET", "/", &[("X-User", "bob")]);
            (answer.status == 200).then_some(())
        });
    }
}

#[test]
#[ignore = "make test-proxies"]
fn no_value_of_a_client_is_a_way_around_the_limit() {
    let limits = Limits::start(USERS, &[]);
    // Each of the entries repeats the value, which together are more than 800 KiB.
    let entries = ["{request_headers: {header_name: x-user, descriptor_key: user}}"; 8].join(", ");
    let twice = format!("[{{actions: [{entries}]}}, {{actions: [{entries}]}}]");
    // An error would let the request pass. The machine can be slower than any service should be.
    let text = rate_limit(&twice, "failure_mode_deny: false");
    let text = text.replace("timeout: 0.25s", "timeout: 20s");
    let envoy = Envoy::start(&text, &limits);
    let long = "x".repeat(50 * 1024);
    for user in [&b"ann"[..], b"\xff\xfe", b"{}|%", long.as_bytes()] {
        let request =
            [b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nX-User: ", user, b"\r\n\r\n"];
        // Both descriptors have the same key, so that each request takes two units.
        for _ in 0..5 {
            assert_eq!(envoy.send(&request.concat()).status, 200);
        }
        let denied = envoy.send(&request.concat());
        let page = limits.gateway.get_as_operator("/metrics").body;
        let calls: Vec<_> = page.lines().filter(|line| line.starts_with("grpc_requests")).collect();
        assert_eq!(denied.status, 429, "{}: {calls:?}", user[..2].escape_ascii());
    }
    let errors = limits.gateway.get_as_operator("/metrics").body;
    let errors = errors.lines().filter(|line| line.starts_with("grpc_requests_total{"));
    let errors: Vec<_> = errors.filter(|line| !line.contains("code=\"OK\"")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
#[ignore = "make test-proxies"]
fn the_configuration_of_envoy_decides_without_redis_and_without_the_gateway() {
    let mut limits = Limits::of_examples(&[("REDIS_TIMEOUT_MS", "100")]);
    let text = example("rate-limit.yaml");
    let denies = Envoy::start(&text, &limits);
    let allows = Envoy::start(&failing_open(&text), &limits);
    assert_eq!((denies.get("/").status, allows.get("/").status), (200, 200));
    limits.server.kill();
    for _ in 0..3 {
        assert_eq!((denies.get("/").status, allows.get("/").status), (500, 200));
    }
    assert!(limits.gateway.metric(
        "grpc_requests_total{method=\"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit\",\
         code=\"UNAVAILABLE\"}"
    ) >= 6.0);
    drop(limits.gateway);
    for _ in 0..3 {
        assert_eq!((denies.get("/").status, allows.get("/").status), (500, 200));
    }
}

#[test]
#[ignore = "make test-proxies"]
fn the_fail_mode_of_the_gateway_decides_in_time_for_envoy() {
    // Redis is silent for longer than Envoy waits.
    let limits = Limits::of_examples(&[("FAIL_MODE", "open"), ("REDIS_TIMEOUT_MS", "10000")]);
    let envoy = Envoy::start(&example("rate-limit.yaml"), &limits);
    assert_eq!(envoy.get("/").status, 200);
    limits.server.freeze();
    let answer = envoy.get("/");
    limits.server.thaw();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(limits.gateway.metric("ratelimit_deadlines_total") >= 1.0);
}

/// Uses ten units, and returns the denial of the next request.
fn use_up(envoy: &Envoy) -> Response {
    for left in (0..10).rev() {
        let forged = [("X-Forwarded-For", "203.0.113.9"), ("RateLimit", "forged")];
        let answer = envoy.request("GET", "/a?b=c", &forged);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left.to_string().as_str()));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"rate\";q=10;w=60"));
        // The service decides about caches.
        assert_eq!(answer.header("cache-control"), None);
    }
    let denied = envoy.get("/");
    assert_eq!((denied.status, denied.body.as_str()), (429, ""), "{denied:?}");
    assert_eq!(denied.header("x-ratelimit-remaining"), Some("0"));
    assert!((1..=60).contains(&number(&denied, "retry-after")), "{denied:?}");
    assert_eq!(envoy.upstream.requests(), 10);
    denied
}

#[test]
#[ignore = "make test-proxies"]
fn external_authorization_over_grpc_limits_each_client() {
    let limits = Limits::of_examples(&[]);
    let envoy = Envoy::start(&example("ext-authz-grpc.yaml"), &limits);
    use_up(&envoy);
    // The other policy, under any spelling of its path.
    for path in ["/login", "//login/", "/%6Cogin", "/login?x", "/LOGIN/../login"] {
        assert_eq!(envoy.request("POST", path, &[]).status, 200, "{path}");
    }
    assert_eq!(envoy.request("POST", "/login", &[]).status, 429);
    // A malformed path of an end user is a denial, and no error.
    assert_eq!(envoy.get("/%zz").status, 400);
    assert_eq!(envoy.status_from(3), 200);
}

#[test]
#[ignore = "make test-proxies"]
fn external_authorization_over_http_limits_each_client() {
    let limits = Limits::of_examples(&[]);
    let envoy = Envoy::start(&example("ext-authz-http.yaml"), &limits);
    use_up(&envoy);
    assert_eq!(envoy.request("POST", "/login", &[]).status, 200);
    assert_eq!(envoy.status_from(3), 200);
}

#[test]
#[ignore = "make test-proxies"]
fn external_authorization_follows_the_configuration_without_a_decision() {
    for file in ["ext-authz-grpc.yaml", "ext-authz-http.yaml"] {
        let mut limits = Limits::of_examples(&[("REDIS_TIMEOUT_MS", "100")]);
        let text = example(file);
        let denies = Envoy::start(&text, &limits);
        let allows = Envoy::start(&failing_open(&text), &limits);
        assert_eq!((denies.get("/").status, allows.get("/").status), (200, 200), "{file}");
        limits.server.kill();
        assert_eq!((denies.get("/").status, allows.get("/").status), (503, 200), "{file}");
        drop(limits.gateway);
        assert_eq!((denies.get("/").status, allows.get("/").status), (503, 200), "{file}");
    }
}

#[test]
#[ignore = "make test-proxies"]
fn a_route_names_its_policy_over_grpc() {
    let policies = format!(
        "{}  - name: search\n    match: named\n    entry: [authz]\n    by: []\n    \
         limits: [{{name: all, limit: 1, per: 365d}}]\n    headers: false\n",
        example("policies.yaml")
    );
    let limits = Limits::start(&policies, &[]);
    let text = example("ext-authz-grpc.yaml");
    let route = "route: {cluster: shop}";
    assert_eq!(text.matches(route).count(), 1);
    let named = format!(
        "{route}\n                          typed_per_filter_config:\n\
         \x20                           envoy.filters.http.ext_authz:\n\
         \x20                             \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n\
         \x20                             check_settings: {{context_extensions: {{policy: search}}}}"
    );
    let envoy = Envoy::start(&text.replace(route, &named), &limits);
    let answer = envoy.get("/");
    assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    // The end user sees when to try again, and not the limit.
    let denied = envoy.get("/");
    assert_eq!((denied.status, denied.header("ratelimit")), (429, None));
    assert!(denied.header("retry-after").is_some());
}

#[test]
#[ignore = "make test-proxies"]
fn the_port_has_the_certificate_of_the_gateway() {
    let authority = Authority::new();
    let certificate = authority.server("gateway", &["127.0.0.1", "localhost"]);
    let policies = example("policies.yaml");
    let limits = Limits::with(&policies, |gateway| gateway.https(&authority, &certificate));
    let place = "      connect_timeout: 0.25s\n";
    let socket = format!(
        "{place}      transport_socket:\n\
         \x20       name: tls\n\
         \x20       typed_config:\n\
         \x20         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n\
         \x20         common_tls_context: {{alpn_protocols: [h2], validation_context: {{trusted_ca: {{filename: \"{}\"}}}}}}\n",
        authority.file().display()
    );
    let text = example("rate-limit.yaml");
    assert_eq!(text.matches(place).count(), 1);
    let envoy = Envoy::start(&text.replace(place, &socket), &limits);
    let answer = envoy.get("/");
    assert_eq!((answer.status, number(&answer, "x-ratelimit-remaining")), (200, 9));
    // Without TLS there is no connection.
    let plain = Envoy::start(&text, &limits);
    assert_eq!(plain.get("/").status, 500);
}
