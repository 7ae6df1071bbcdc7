//! Forward authentication: proxies that authenticate themselves, and failures of Redis.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{
    ApiKey, Authority, Certificate, Gateway, GatewayBuilder, Response, Server, eventually,
    free_port, http_exchange, http_request,
};

const POLICIES: &str = r#"
version: 1
policies:
  - name: open
    match: {path: /open}
    by: []
    limits: [{name: rate, limit: 2, per: 365d}]
    on_error: open
  - name: local
    match: {path: /local}
    by: []
    limits: [{name: rate, limit: 1, per: 365d}]
    on_error: local
  - name: blocked
    match: {path: /blocked}
    by: [method]
    missing: share
    limits: [{name: rate, limit: 1, per: 365d}]
    overrides: [{by: GET, block: true, reason: abuse}]
  - name: all
    by: []
    limits: [{name: rate, limit: 1000, per: 365d}]
"#;

fn builder(directory: &TempDir) -> GatewayBuilder {
    let file = directory.path().join("policies.yaml");
    fs::write(&file, POLICIES).expect("the file is written");
    Gateway::builder().env("POLICIES_FILE", &file.display().to_string())
}

fn ask(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Response {
    gateway.request("GET", &format!("/authz/ext-authz{path}"), headers, "")
}

#[test]
fn a_proxy_needs_a_key_with_the_scope_check() {
    let directory = TempDir::new().unwrap();
    let keys = directory.path().join("keys.json");
    // The limit of a caller does not hold: one end user would use it up for all others.
    let proxy = ApiKey::new("proxy", &["check"]).limit(1, 3_600);
    let reader = ApiKey::new("reader", &["read"]);
    ApiKey::write(&keys, &[&proxy, &reader]);
    let gateway = builder(&directory)
        .env("REDIS_URL", "memory://")
        .env("API_KEYS_FILE", &keys.display().to_string())
        .start();
    let own = ("X-RateLimit-Key", proxy.key.as_str());
    let bearer = format!("Bearer {}", proxy.key);
    // The other credentials are the end user's, whatever they are.
    let users =
        [("X-API-Key", "of the end user"), ("Authorization", "Bearer x"), ("Cookie", "a=b")];
    for headers in [&[own][..], &[&[own][..], &users].concat(), &[own, reader.header()]] {
        assert_eq!(ask(&gateway, "/", headers).status, 200, "{headers:?}");
    }
    gateway.log_with("\"caller\":\"key:proxy\"");
    for (headers, reason) in [
        (&[][..], "missing"),
        (&[("X-RateLimit-Key", "")], "missing"),
        (&[proxy.header()], "missing"),
        (&[("Authorization", bearer.as_str())], "missing"),
        (&[("X-RateLimit-Key", "other")], "unknown_key"),
        (&[("X-RateLimit-Key", bearer.as_str())], "unknown_key"),
        (&[own, own], "ambiguous"),
        (&[("X-RateLimit-Key", &reader.key)], "scope"),
    ] {
        let metric = format!("ratelimit_auth_failures_total{{reason=\"{reason}\"}}");
        let before = gateway.metric(&metric);
        let answer = ask(&gateway, "/", headers);
        assert_eq!((answer.status, answer.body.as_str()), (500, ""), "{headers:?}");
        assert_eq!(answer.header("WWW-Authenticate"), None);
        assert_eq!(gateway.metric(&metric), before + 1.0, "{reason}");
        gateway.log_with(&format!("\"refusal\":\"{reason}\""));
    }
    gateway.log_with("a proxy is not authenticated");
    // A page of another origin needs no permission, and other routes still need a key.
    assert_eq!(ask(&gateway, "/", &[own, ("Origin", "https://other.example")]).status, 200);
    let check = |header| gateway.request("POST", "/rate-limit/check", &[header], "{}").status;
    assert_eq!(check(own), 401);
    assert_ne!(check(proxy.header()), 401);
}

#[test]
fn a_proxy_with_a_known_address_needs_no_key() {
    let directory = TempDir::new().unwrap();
    let keys = directory.path().join("keys.json");
    ApiKey::write(&keys, &[&ApiKey::new("other", &["read"])]);
    for (peers, status) in [("127.0.0.0/8", 200), ("10.0.0.0/8", 500)] {
        let gateway = builder(&directory)
            .env("REDIS_URL", "memory://")
            .env("API_KEYS_FILE", &keys.display().to_string())
            .env("AUTHZ_PEERS", peers)
            .start();
        assert_eq!(ask(&gateway, "/", &[]).status, status, "{peers}");
        // An end user cannot lock the proxy out with a key of its own.
        let forged = [("X-RateLimit-Key", "forged"), ("X-RateLimit-Key", "forged")];
        assert_eq!(ask(&gateway, "/", &forged).status, status, "{peers}");
        assert_eq!(gateway.post("/rate-limit/check", "{}").status, 401);
        if status == 200 {
            gateway.log_with("\"caller\":\"peer:127.0.0.1\"");
        }
    }
}

#[test]
fn a_proxy_with_a_certificate_needs_no_key() {
    let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
    let keys = directory.path().join("keys.json");
    ApiKey::write(&keys, &[&ApiKey::new("other", &["read"])]);
    let gateway = builder(&directory)
        .env("REDIS_URL", "memory://")
        .env("API_KEYS_FILE", &keys.display().to_string())
        .env("AUTHZ_CLIENT_CA_FILE", &authority.file().display().to_string())
        .https(&authority, &authority.server("gateway", &["127.0.0.1"]))
        .start();
    let curl = |certificate: Option<&Certificate>, path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        curl.arg("--cacert").arg(authority.file());
        if let Some(Certificate { certificate, key }) = certificate {
            curl.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output = curl.arg(format!("https://{}{path}", gateway.address())).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let proxy = authority.client("proxy");
    assert_eq!(curl(Some(&proxy), "/authz/ext-authz/"), "200");
    gateway.log_with("\"caller\":\"certificate\"");
    assert_eq!(curl(None, "/authz/ext-authz/"), "500");
    // A certificate authenticates no caller of other routes, and one of another authority no proxy.
    assert_eq!(curl(Some(&proxy), "/rate-limit/status/u"), "401");
    assert_eq!(curl(None, "/health/live"), "200");
    let other = Authority::new().client("proxy");
    assert_eq!(curl(Some(&other), "/authz/ext-authz/"), "000");
}

#[test]
fn the_fail_mode_decides_while_redis_does_not_answer() {
    let (mut server, directory) = (Server::start(), TempDir::new().unwrap());
    let start = |mode: &str| {
        let builder = builder(&directory).redis(&server).env("REDIS_TIMEOUT_MS", "1000");
        builder.env("FAIL_MODE", mode).start()
    };
    let gateways = ["closed", "open", "local"].map(start);
    for gateway in &gateways {
        assert_eq!(ask(gateway, "/", &[]).header("X-RateLimit-Source"), None);
    }
    server.kill();
    let source = |answer: &Response| answer.header("X-RateLimit-Source").map(str::to_owned);
    let [closed, open, local] = gateways.each_ref().map(|gateway| ask(gateway, "/", &[]));
    assert_eq!((closed.status, closed.body.as_str()), (503, ""), "{closed:?}");
    assert!(closed.header("Retry-After").is_some());
    assert_eq!((open.status, source(&open).as_deref()), (200, Some("open")));
    assert_eq!((local.status, source(&local).as_deref()), (200, Some("local")));
    for gateway in &gateways {
        // A policy can have a mode of its own.
        let answers = [(); 3].map(|()| ask(gateway, "/open", &[]));
        let sources = answers.each_ref().map(|answer| (answer.status, source(answer)));
        assert_eq!(sources, [(); 3].map(|()| (200, Some("open".to_owned()))));
        let answers = [(); 2].map(|()| ask(gateway, "/local", &[]).status);
        assert_eq!(answers, [200, 429]);
        // A block needs no state.
        assert_eq!(ask(gateway, "/blocked", &[]).status, 429);
    }
    server.resume();
    let [closed, ..] = &gateways;
    eventually("Redis decides", || (ask(closed, "/", &[]).status == 200).then_some(()));
}

#[test]
fn a_port_for_proxies_serves_forward_authentication_and_nothing_else() {
    let (directory, port) = (TempDir::new().unwrap(), free_port());
    let gateway = builder(&directory)
        .env("REDIS_URL", "memory://")
        .env("AUTHZ_PORT", &port.to_string())
        .start();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let of_proxies = |method: &str, path: &str| {
        http_exchange(address, &http_request(method, path, &[], "")).unwrap().status
    };
    assert_eq!(of_proxies("GET", "/authz/ext-authz/health/live"), 200);
    assert_eq!(of_proxies("OPTIONS", "/authz/ext-authz;policy=all/"), 200);
    assert_eq!(of_proxies("GET", "/authz/ext-authz/blocked"), 429);
    // Another proxy on the way can remove the prefix with the dots of the end user.
    for path in ["/", "/health", "/health/live", "/metrics", "/docs", "/authz", "/authz/other"] {
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(of_proxies(method, path), 404, "{method} {path}");
        }
    }
    assert_eq!(ask(&gateway, "/", &[]).status, 404);
    assert_eq!(gateway.get("/health/live").status, 200);
    assert!(gateway.terminate().0.success());
}
